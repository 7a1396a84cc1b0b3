package applets

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// sedProgram is a parsed script.
type sedProgram struct {
	commands []*sedCommand
	quiet    bool // it begins with `#n`
	status   int
	written  map[string]bool // the files of w that this run has begun
}

// sedCommand is one command with its addresses.
type sedCommand struct {
	from, to *sedAddress
	negated  bool
	active   bool // within its range
	until    int  // the last line of a range that is counted
	letter   byte
	text     string // of a, i, c; the label of b, t, :; the file of r, w; the sets of y
	inner    []*sedCommand
	pattern  *regexp.Regexp
	template string
	global   bool
	print    bool
	nth      int
	number   int
}

type sedAddress struct {
	line     int
	step     int
	last     bool
	pattern  *regexp.Regexp
	relative bool
}

type sedParser struct {
	text     string
	at       int
	extended bool
	previous *regexp.Regexp // that an empty expression means
}

func parseSed(text string, extended bool) (*sedProgram, error) {
	p := &sedParser{text: text, extended: extended}
	program := &sedProgram{quiet: strings.HasPrefix(text+"\n", "#n\n"), written: map[string]bool{}}
	commands, err := p.block(false)
	program.commands = commands
	if err == nil {
		err = checkLabels(commands, commands)
	}
	return program, err
}

func checkLabels(commands, all []*sedCommand) error {
	for _, command := range commands {
		if (command.letter == 'b' || command.letter == 't' || command.letter == 'T') && command.text != "" &&
			labelAt(all, command.text) < 0 {
			return fmt.Errorf("can't find label '%s'", command.text)
		}
		if err := checkLabels(command.inner, all); err != nil {
			return err
		}
	}
	return nil
}

func labelAt(commands []*sedCommand, label string) int {
	for at, command := range commands {
		if command.letter == ':' && command.text == label {
			return at
		}
	}
	return -1
}

func (p *sedParser) peek() byte {
	if p.at >= len(p.text) {
		return 0
	}
	return p.text[p.at]
}

func (p *sedParser) skip(characters string) {
	for p.at < len(p.text) && strings.IndexByte(characters, p.text[p.at]) >= 0 {
		p.at++
	}
}

func (p *sedParser) block(nested bool) ([]*sedCommand, error) {
	var commands []*sedCommand
	for {
		p.skip(" \t\n;")
		switch {
		case p.at >= len(p.text) && nested:
			return nil, errors.New("unmatched {")
		case p.at >= len(p.text):
			return commands, nil
		case p.peek() == '}' && !nested:
			return nil, errors.New("unexpected }")
		case p.peek() == '}':
			p.at++
			return commands, nil
		case p.peek() == '#':
			p.line()
			continue
		}
		command, err := p.command()
		if err != nil {
			return nil, err
		}
		commands = append(commands, command)
	}
}

// line takes the rest of the line.
func (p *sedParser) line() string {
	rest, _, _ := strings.Cut(p.text[p.at:], "\n")
	p.at += len(rest)
	return rest
}

func (p *sedParser) command() (*sedCommand, error) {
	command := &sedCommand{nth: 1}
	var err error
	if command.from, err = p.address(); err != nil {
		return nil, err
	}
	p.skip(" \t")
	if command.from != nil && p.peek() == ',' {
		p.at++
		p.skip(" \t")
		if command.to, err = p.address(); err != nil {
			return nil, err
		}
		if command.to == nil {
			return nil, errors.New("unexpected ,")
		}
	}
	p.skip(" \t")
	for p.peek() == '!' {
		command.negated = true
		p.at++
		p.skip(" \t")
	}
	command.letter = p.peek()
	p.at++
	switch command.letter {
	case '{':
		command.inner, err = p.block(true)
	case 's':
		err = p.substitution(command)
	case 'y':
		err = p.transliteration(command)
	case 'a', 'i', 'c':
		command.text = p.textArgument()
	case ':', 'b', 't', 'T':
		p.skip(" \t")
		end := strings.IndexAny(p.text[p.at:], "\n; \t}")
		if end < 0 {
			end = len(p.text) - p.at
		}
		command.text = p.text[p.at : p.at+end]
		p.at += end
	case 'q', 'Q', 'l':
		p.skip(" \t")
		start := p.at
		p.skip("0123456789")
		command.number, _ = strconv.Atoi(p.text[start:p.at]) // nothing is 0
	case 'r', 'w':
		p.skip(" \t")
		command.text = p.line()
	case 'd', 'D', 'g', 'G', 'h', 'H', 'n', 'N', 'p', 'P', 'x', '=':
	case 0:
		return nil, errors.New("missing command")
	default:
		return nil, fmt.Errorf("unknown command: '%c'", command.letter)
	}
	return command, err
}

func (p *sedParser) address() (*sedAddress, error) {
	switch b := p.peek(); {
	case b == '$':
		p.at++
		return &sedAddress{last: true}, nil
	case isDigit(b) || b == '+':
		address := &sedAddress{relative: b == '+'}
		if b == '+' {
			p.at++
		}
		address.line = p.digits()
		if p.peek() == '~' {
			p.at++
			address.step = p.digits()
		}
		return address, nil
	case b == '/' || b == '\\':
		if b == '\\' {
			p.at++
		}
		text, err := p.delimited(true)
		if err != nil {
			return nil, err
		}
		ignoreCase := p.peek() == 'I'
		if ignoreCase {
			p.at++
		}
		pattern, err := p.regular(text, ignoreCase)
		return &sedAddress{pattern: pattern}, err
	}
	return nil, nil
}

func (p *sedParser) digits() int {
	start := p.at
	p.skip("0123456789")
	number, _ := strconv.Atoi(p.text[start:p.at]) // nothing is 0
	return number
}

func (p *sedParser) regular(text string, ignoreCase bool) (*regexp.Regexp, error) {
	if text == "" {
		if p.previous == nil {
			return nil, errors.New("no previous regular expression")
		}
		return p.previous, nil
	}
	pattern, err := compileRegular(strings.ReplaceAll(text, "\n", `\n`), p.extended, ignoreCase)
	p.previous = pattern
	return pattern, err
}

// delimited takes a text between two delimiters, the first of which is next; the second is taken too.
func (p *sedParser) delimited(isPattern bool) (string, error) {
	delimiter := p.peek()
	if delimiter == 0 || delimiter == '\n' || delimiter == '\\' {
		return "", errors.New("missing delimiter")
	}
	p.at++
	var text strings.Builder
	inBracket := false
	for p.at < len(p.text) {
		b := p.text[p.at]
		switch {
		case b == '\\' && p.at+1 < len(p.text):
			next := p.text[p.at+1]
			switch {
			case next == delimiter && !inBracket:
				text.WriteByte(next)
			case next == 'n' && isPattern:
				text.WriteByte('\n')
			default:
				text.WriteString(p.text[p.at : p.at+2])
			}
			p.at += 2
			continue
		case b == delimiter && !inBracket:
			p.at++
			return text.String(), nil
		case b == '[' && isPattern && !inBracket:
			inBracket = true
			if rest := p.text[p.at+1:]; strings.HasPrefix(rest, "]") || strings.HasPrefix(rest, "^]") {
				end := strings.IndexByte(rest, ']')
				text.WriteString(p.text[p.at : p.at+1+end])
				p.at += 1 + end
				b = ']'
			}
		case b == ']' && inBracket:
			inBracket = false
		}
		text.WriteByte(b)
		p.at++
	}
	return "", errors.New("unterminated expression")
}

func (p *sedParser) substitution(command *sedCommand) error {
	delimiter := p.at
	pattern, err := p.delimited(true)
	if err != nil {
		return err
	}
	p.at--
	if p.text[p.at] != p.text[delimiter] {
		return errors.New("unterminated s")
	}
	if command.template, err = p.delimited(false); err != nil {
		return err
	}
	ignoreCase := false
	for {
		switch b := p.peek(); {
		case b == 'g':
			command.global = true
		case b == 'p':
			command.print = true
		case b == 'i' || b == 'I':
			ignoreCase = true
		case isDigit(b) && b != '0':
			command.nth = p.digits()
			continue
		case b == 'e' || b == 'w' || b == 'm' || b == 'M':
			return fmt.Errorf("the flag %c of s is not supported", b)
		default:
			command.pattern, err = p.regular(pattern, ignoreCase)
			return err
		}
		p.at++
	}
}

func (p *sedParser) transliteration(command *sedCommand) error {
	from, err := p.delimited(false)
	if err != nil {
		return err
	}
	p.at--
	to, err := p.delimited(false)
	if err != nil {
		return err
	}
	plain := strings.NewReplacer(`\\`, `\`, `\n`, "\n")
	before, after := []rune(plain.Replace(from)), []rune(plain.Replace(to))
	if len(before) != len(after) {
		return errors.New("the strings of y have different lengths")
	}
	var pairs []string
	for at := range before {
		pairs = append(pairs, string(before[at]), string(after[at]))
	}
	command.text = strings.Join(pairs, "\x00")
	return nil
}

// textArgument is the text of a, i and c: behind a backslash and a line's end, or on the same line.
func (p *sedParser) textArgument() string {
	p.skip(" \t")
	if p.peek() == '\\' {
		p.at++
		p.skip(" \t")
		if p.peek() == '\n' {
			p.at++
		}
	}
	var text strings.Builder
	for p.at < len(p.text) && p.text[p.at] != '\n' {
		if p.text[p.at] == '\\' && p.at+1 < len(p.text) {
			p.at++
		}
		text.WriteByte(p.text[p.at])
		p.at++
	}
	return text.String()
}
