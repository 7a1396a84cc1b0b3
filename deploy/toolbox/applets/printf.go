package applets

import (
	"strconv"
	"strings"

	"vkubelet.local/toolbox/call"
)

// printer is one run of printf, POSIX' and what bash adds of use.
type printer struct {
	*call.Call
	args   []string
	taken  bool // a format took an argument
	ended  bool // `\c`
	status int
}

func printf(c *call.Call) int {
	if len(c.Args) > 0 && c.Args[0] == "--" {
		c.Args = c.Args[1:]
	}
	c.Operands(1, -1)
	p := &printer{Call: c, args: c.Args[1:]}
	for {
		p.taken = false
		p.once(c.Args[0])
		if p.ended || !p.taken || len(p.args) == 0 {
			return p.status
		}
	}
}

// next is the next argument; behind the last all are empty.
func (p *printer) next() string {
	p.taken = true
	if len(p.args) == 0 {
		return ""
	}
	arg := p.args[0]
	p.args = p.args[1:]
	return arg
}

// once writes the format, filled with arguments, one time.
func (p *printer) once(format string) {
	for at := 0; at < len(format) && !p.ended; {
		switch {
		case format[at] == '\\':
			text, used, ended := unescapeOne(format[at:], false)
			p.Out.WriteString(text)
			p.ended = ended
			at += used
		case format[at] != '%':
			p.Out.WriteByte(format[at])
			at++
		case strings.HasPrefix(format[at:], "%%"):
			p.Out.WriteByte('%')
			at += 2
		default:
			at += p.conversion(format[at:])
		}
	}
}

// conversion writes one `%...` and returns its length.
func (p *printer) conversion(format string) int {
	spec := "%"
	at := 1
	for at < len(format) && strings.IndexByte("-+ #0123456789.*", format[at]) >= 0 {
		if format[at] == '*' {
			spec += strconv.FormatInt(p.integer(p.next()), 10)
		} else {
			spec += string(format[at])
		}
		at++
	}
	for at < len(format) && strings.IndexByte("hlLqjzt", format[at]) >= 0 && at+1 < len(format) && isAlpha(format[at+1]) {
		at++ // a C type's length
	}
	if at == len(format) {
		p.Die(1, "%s: invalid directive", format)
	}
	switch letter := format[at]; letter {
	case 's':
		p.Print(spec+"s", p.next())
	case 'b':
		text, ended := unescapeAll(p.next())
		p.Print(spec+"s", text)
		p.ended = ended
	case 'q':
		p.Print(spec+"s", shellQuote(p.next()))
	case 'c':
		arg := p.next()
		p.Print(spec+"s", arg[:min(1, len(arg))])
	case 'd', 'i':
		p.Print(spec+"d", p.integer(p.next()))
	case 'u':
		p.Print(spec+"d", uint64(p.integer(p.next())))
	case 'o', 'x', 'X':
		p.Print(spec+string(letter), uint64(p.integer(p.next())))
	case 'e', 'E', 'f', 'F', 'g', 'G':
		text := p.next()
		value, err := strconv.ParseFloat(text, 64)
		if err != nil && text != "" {
			p.complain(text)
		}
		if (letter == 'g' || letter == 'G') && !strings.Contains(spec, ".") {
			spec += ".6" // C's precision; Go's is as much as is needed
		}
		p.Print(spec+string(letter), value)
	default:
		p.Die(1, "%s: invalid directive", format[:at+1])
	}
	return at + 1
}

func (p *printer) complain(text string) {
	p.Error("'%s': expected a numeric value", text)
	p.status = 1
}

// integer reads a number as C does, or the code of the character behind a quote.
func (p *printer) integer(text string) int64 {
	if text == "" {
		return 0
	}
	if text[0] == '\'' || text[0] == '"' {
		for _, character := range text[1:] {
			return int64(character)
		}
		return 0
	}
	value, err := strconv.ParseInt(strings.TrimSpace(text), 0, 64)
	if err == nil {
		return value
	}
	if unsigned, failed := strconv.ParseUint(text, 0, 64); failed == nil {
		return int64(unsigned)
	}
	p.complain(text)
	end := 0
	for end < len(text) && (isDigit(text[end]) || (end == 0 && text[end] == '-')) {
		end++
	}
	value, err = strconv.ParseInt(text[:end], 10, 64)
	if err != nil {
		return 0 // not even the beginning is a number
	}
	return value
}

// unescapeOne reads the escape that a text begins with; `zero` means that octal numbers begin with a 0, as in %b.
func unescapeOne(text string, zero bool) (plain string, used int, ended bool) {
	if len(text) < 2 {
		return text, len(text), false
	}
	if at := strings.IndexByte("abefnrtv\\\"'", text[1]); at >= 0 {
		return "\a\b\x1b\f\n\r\t\v\\\"'"[at : at+1], 2, false
	}
	switch {
	case text[1] == 'c':
		return "", 2, true
	case text[1] == 'x':
		end := 2
		for end < min(4, len(text)) && (isDigit(text[end]) || (text[end]|32 >= 'a' && text[end]|32 <= 'f')) {
			end++
		}
		if value, err := strconv.ParseUint(text[2:end], 16, 8); err == nil {
			return string([]byte{byte(value)}), end, false
		}
	case octal(text[1:]) > 0:
		start := 1
		if zero && text[1] == '0' {
			start = 2
		}
		digits := octal(text[start:])
		if digits == 0 {
			return "\x00", start, false
		}
		if value, err := strconv.ParseUint(text[start:start+digits], 8, 16); err == nil {
			return string([]byte{byte(value)}), start + digits, false
		}
	}
	return text[:2], 2, false
}

func unescapeAll(text string) (string, bool) {
	var plain strings.Builder
	for at := 0; at < len(text); {
		if text[at] != '\\' {
			plain.WriteByte(text[at])
			at++
			continue
		}
		piece, used, ended := unescapeOne(text[at:], true)
		plain.WriteString(piece)
		if ended {
			return plain.String(), true
		}
		at += used
	}
	return plain.String(), false
}

// shellQuote writes a text so that a shell reads it as one word.
func shellQuote(text string) string {
	if text != "" && !strings.ContainsAny(text, " \t\n'\"\\$`*?[]{}()<>|&;!#~=") {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
