package applets

import (
	"io"
	"os"
	"strconv"
	"strings"

	"vkubelet.local/toolbox/call"
)

// sedOutcome is how a cycle over a line ends.
type sedOutcome int

const (
	sedEnd    sedOutcome = iota // at the script's end: the line is shown
	sedDelete                   // without showing it
	sedRestart
	sedQuit
	sedQuitSilently
	sedGoOn // no end: the next command
)

// cycle runs commands over the pattern space.
func (e *editing) cycle(commands []*sedCommand) sedOutcome {
	outcome, label := e.block(commands)
	for outcome == sedGoOn && label != "" {
		outcome, label = e.block(commands[labelAt(commands, label):])
	}
	if outcome == sedGoOn {
		return sedEnd
	}
	return outcome
}

// block runs commands; a label is where to go on, `\x00` the script's end.
func (e *editing) block(commands []*sedCommand) (sedOutcome, string) {
	for _, command := range commands {
		if e.selected(command) == command.negated {
			continue
		}
		if command.letter == '{' {
			if outcome, label := e.block(command.inner); outcome != sedGoOn || label != "" {
				return outcome, label
			}
			continue
		}
		jumps := command.letter == 'b' || (command.letter == 't' && e.replaced) || (command.letter == 'T' && !e.replaced)
		if command.letter == 't' || (command.letter == 'T' && !jumps) {
			e.replaced = false
		}
		if jumps && command.text == "" {
			return sedEnd, ""
		}
		if jumps {
			return sedGoOn, command.text
		}
		if outcome := e.do(command); outcome != sedGoOn {
			return outcome, ""
		}
	}
	return sedGoOn, ""
}

func (e *editing) matches(address *sedAddress) bool {
	switch {
	case address.last:
		return e.lines.last()
	case address.pattern != nil:
		return address.pattern.MatchString(e.pattern)
	case address.step > 0:
		return e.number >= address.line && (e.number-address.line)%address.step == 0
	}
	return e.number == address.line
}

// selected tells whether a command's addresses mean the current line.
func (e *editing) selected(command *sedCommand) bool {
	switch {
	case command.from == nil:
		return true
	case command.to == nil:
		return e.matches(command.from)
	case !command.active:
		zero := command.from.line == 0 && command.from.pattern == nil && !command.from.last
		if !zero && !e.matches(command.from) {
			return false
		}
		if zero && e.number > 1 {
			return false
		}
		command.active = true
		switch to := command.to; {
		case to.relative:
			command.until = e.number + to.line
		case to.pattern != nil:
			command.until = 0
			if zero && to.pattern.MatchString(e.pattern) {
				command.active = false
			}
		case to.last:
			command.until = 0
		default:
			command.until = to.line
		}
		if command.until > 0 && command.until <= e.number {
			command.active = false
		}
		return true
	}
	switch {
	case command.until > 0:
		command.active = e.number < command.until
		return e.number <= command.until
	case e.matches(command.to):
		command.active = false
	}
	return true
}

func (e *editing) do(command *sedCommand) sedOutcome {
	switch command.letter {
	case 's':
		e.substitute(command)
	case 'y':
		e.pattern = strings.NewReplacer(strings.Split(command.text, "\x00")...).Replace(e.pattern)
	case 'p':
		e.show(e.pattern)
	case 'P':
		first, _, _ := strings.Cut(e.pattern, "\n")
		e.show(first)
	case '=':
		io.WriteString(e.out, strconv.Itoa(e.number)+"\n")
	case 'l':
		quoted := strconv.QuoteToASCII(e.pattern)
		e.show(strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`) + "$")
	case 'a':
		e.appended = append(e.appended, command.text+"\n")
	case 'i':
		io.WriteString(e.out, command.text+"\n")
	case 'c':
		if command.to == nil || !command.active || command.negated {
			io.WriteString(e.out, command.text+"\n")
		}
		return sedDelete
	case 'd':
		return sedDelete
	case 'D':
		if _, rest, more := strings.Cut(e.pattern, "\n"); more {
			e.pattern = rest
			return sedRestart
		}
		return sedDelete
	case 'g':
		e.pattern = e.hold
	case 'G':
		e.pattern += "\n" + e.hold
	case 'h':
		e.hold = e.pattern
	case 'H':
		e.hold += "\n" + e.pattern
	case 'x':
		e.pattern, e.hold = e.hold, e.pattern
	case 'n', 'N':
		return e.another(command.letter)
	case 'q', 'Q':
		e.program.status = command.number
		if command.letter == 'Q' {
			return sedQuitSilently
		}
		return sedQuit
	case 'r':
		if text, err := os.ReadFile(e.Path(command.text)); err == nil {
			e.appended = append(e.appended, string(text)) // one that cannot be read is empty, says POSIX
		}
	case 'w':
		e.write(command.text)
	}
	return sedGoOn
}

// another reads the next line: in the pattern space's place, or behind it.
func (e *editing) another(letter byte) sedOutcome {
	if e.lines.last() {
		if letter == 'n' && e.quiet {
			return sedQuitSilently
		}
		return sedQuit // GNU's shows what there is
	}
	if letter == 'n' && !e.quiet {
		e.show(e.pattern)
	}
	e.flushAppended()
	line, _ := e.lines.next() // there is one
	e.number++
	if letter == 'N' {
		line = e.pattern + "\n" + line
	}
	e.pattern = line
	return sedGoOn
}

func (e *editing) write(name string) {
	flags := os.O_WRONLY | os.O_CREATE | os.O_APPEND
	if !e.program.written[name] {
		flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
		e.program.written[name] = true
	}
	files := e.Files()
	files.Stdout = e.Out
	file, err := call.OpenFile(e.Path(name), flags, 0o644, files)
	if err == nil {
		_, err = io.WriteString(file, e.pattern+"\n")
		if failed := file.Close(); err == nil {
			err = failed
		}
	}
	if err != nil {
		e.Fail(name, err)
	}
}

func (e *editing) substitute(command *sedCommand) {
	var out strings.Builder
	rest, count, changed := 0, 0, false
	for _, match := range command.pattern.FindAllStringSubmatchIndex(e.pattern, -1) {
		count++
		if count < command.nth || (changed && !command.global) {
			continue
		}
		out.WriteString(e.pattern[rest:match[0]])
		expandTemplate(&out, command.template, e.pattern, match)
		rest, changed = match[1], true
	}
	if !changed {
		return
	}
	out.WriteString(e.pattern[rest:])
	e.pattern = out.String()
	e.replaced = true
	if command.print {
		e.show(e.pattern)
	}
}

// expandTemplate writes the replacement of s: `&`, `\1`, and the changes of case `\U \L \u \l \E`.
func expandTemplate(out *strings.Builder, template, text string, match []int) {
	mode, once := byte('E'), byte(0)
	write := func(piece string) {
		switch mode {
		case 'U':
			piece = strings.ToUpper(piece)
		case 'L':
			piece = strings.ToLower(piece)
		}
		if once != 0 && piece != "" {
			if once == 'u' {
				piece = strings.ToUpper(piece[:1]) + piece[1:]
			} else {
				piece = strings.ToLower(piece[:1]) + piece[1:]
			}
			once = 0
		}
		out.WriteString(piece)
	}
	group := func(number int) string {
		if 2*number+1 < len(match) && match[2*number] >= 0 {
			return text[match[2*number]:match[2*number+1]]
		}
		return ""
	}
	for at := 0; at < len(template); at++ {
		b := template[at]
		switch {
		case b == '&':
			write(group(0))
		case b == '\\' && at+1 < len(template):
			at++
			switch next := template[at]; {
			case isDigit(next):
				write(group(int(next - '0')))
			case next == 'n':
				write("\n")
			case next == 't':
				write("\t")
			case strings.IndexByte("ULE", next) >= 0:
				mode = next
			case next == 'u' || next == 'l':
				once = next
			default:
				write(string(next))
			}
		default:
			write(string(b))
		}
	}
}
