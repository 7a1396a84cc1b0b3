package applets

import (
	"errors"
	"regexp"
	"strings"
)

// compileRegular compiles a POSIX regular expression, basic or extended, for Go's engine, which takes linear time.
// It has no references back to a group, which are refused.
func compileRegular(pattern string, extended, ignoreCase bool) (*regexp.Regexp, error) {
	text, err := translate(pattern, extended)
	if err != nil {
		return nil, err
	}
	flags := "(?s"
	if ignoreCase {
		flags += "i"
	}
	compiled, err := regexp.Compile(flags + ")" + text)
	if err != nil {
		return nil, err
	}
	compiled.Longest()
	return compiled, nil
}

// translate writes a POSIX expression in Go's syntax.
func translate(pattern string, extended bool) (string, error) {
	var out strings.Builder
	start := true // of the expression, or of a group or an alternative: a `*` there is itself
	for at := 0; at < len(pattern); at++ {
		b := pattern[at]
		wasStart := start
		start = false
		switch {
		case b == '\\':
			at++
			if at == len(pattern) {
				return "", errors.New("trailing backslash")
			}
			escaped := pattern[at]
			switch {
			case escaped >= '1' && escaped <= '9':
				return "", errors.New("references back to a group are not supported")
			case !extended && strings.IndexByte("(){}|+?", escaped) >= 0:
				out.WriteByte(escaped)
				start = escaped == '(' || escaped == '|'
			case escaped == '<' || escaped == '>':
				out.WriteString(`\b`)
			case escaped == '`':
				out.WriteString(`\A`)
			case escaped == '\'':
				out.WriteString(`\z`)
			case strings.IndexByte("bBwWsSdDnt", escaped) >= 0:
				out.WriteString(`\` + string(escaped))
			default:
				out.WriteString(regexp.QuoteMeta(string(escaped)))
			}
		case b == '[':
			end, err := bracket(&out, pattern[at:])
			if err != nil {
				return "", err
			}
			at += end - 1
		case b == '*' && wasStart:
			out.WriteString(`\*`)
		case !extended && strings.IndexByte("(){}|+?", b) >= 0:
			out.WriteString(`\` + string(b))
		case !extended && b == '^' && !wasStart:
			out.WriteString(`\^`)
		case !extended && b == '$' && at+1 < len(pattern) && !endsGroup(pattern[at+1:]):
			out.WriteString(`\$`)
		default:
			out.WriteByte(b)
			start = b == '^' && wasStart || extended && (b == '(' || b == '|')
		}
	}
	return out.String(), nil
}

func endsGroup(rest string) bool {
	return strings.HasPrefix(rest, `\)`) || strings.HasPrefix(rest, `\|`)
}

// bracket writes a bracket expression, in which a backslash is itself, and returns its length.
func bracket(out *strings.Builder, text string) (int, error) {
	at := 1
	out.WriteByte('[')
	if at < len(text) && text[at] == '^' {
		out.WriteByte('^')
		at++
	}
	for first := true; at < len(text); first = false {
		b := text[at]
		switch {
		case b == ']' && !first:
			out.WriteByte(']')
			return at + 1, nil
		case strings.HasPrefix(text[at:], "[:"):
			end := strings.Index(text[at:], ":]")
			if end < 0 {
				return 0, errors.New("unmatched [")
			}
			out.WriteString(text[at : at+end+2])
			at += end + 2
			continue
		case b == '\\' || b == '[' || b == ']':
			out.WriteByte('\\')
		}
		out.WriteByte(b)
		at++
	}
	return 0, errors.New("unmatched [")
}
