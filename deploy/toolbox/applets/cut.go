package applets

import (
	"io"
	"strconv"
	"strings"

	"vkubelet.local/toolbox/call"
)

// span is a part of a LIST, counted from 1; `last` 0 is the end.
type span struct{ first, last int }

func parseSpans(c *call.Call, list string) []span {
	var spans []span
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(part, "-")
		s := span{first: 1}
		var failed bool
		number := func(text string, into *int) {
			value, err := strconv.Atoi(text)
			failed = failed || err != nil || value < 1
			*into = value
		}
		if from != "" || !isRange {
			number(from, &s.first)
		}
		switch {
		case !isRange:
			s.last = s.first
		case to != "":
			number(to, &s.last)
			failed = failed || s.last < s.first
		case from == "":
			failed = true
		}
		if failed {
			c.Die(1, "invalid list '%s'", list)
		}
		spans = append(spans, s)
	}
	return spans
}

func within(spans []span, at int) bool {
	for _, s := range spans {
		if at >= s.first && (s.last == 0 || at <= s.last) {
			return true
		}
	}
	return false
}

func cut(c *call.Call) int {
	options := c.Options("b:c:f:d:s\x01:", call.Long{
		"bytes": 'b', "characters": 'c', "fields": 'f', "delimiter": 'd', "only-delimited": 's', "output-delimiter": '\x01',
	}, 1)
	by := options.Last("bcf")
	if by == 0 {
		c.Misused(1, "one of -b, -c and -f is needed")
	}
	spans := parseSpans(c, options.Value(by, ""))
	delimiter := options.Value('d', "\t")
	if len([]rune(delimiter)) != 1 {
		c.Die(1, "the delimiter must be a single character")
	}
	between := options.Value('\x01', delimiter)
	eachLine(c, c.Args, func(line string) bool {
		var kept []string
		switch by {
		case 'f':
			if !strings.Contains(line, delimiter) {
				if !options.Has('s') {
					c.Print("%s\n", line)
				}
				return true
			}
			for at, field := range strings.Split(line, delimiter) {
				if within(spans, at+1) {
					kept = append(kept, field)
				}
			}
			c.Print("%s\n", strings.Join(kept, between))
			return true
		case 'b':
			for at := range len(line) {
				if within(spans, at+1) {
					kept = append(kept, line[at:at+1])
				}
			}
		default:
			for at, character := range []rune(line) {
				if within(spans, at+1) {
					kept = append(kept, string(character))
				}
			}
		}
		c.Print("%s\n", strings.Join(kept, ""))
		return true
	})
	return 0
}

func tr(c *call.Call) int {
	options := c.Options("+cCds", call.Long{"complement": 'c', "delete": 'd', "squeeze-repeats": 's'}, 1)
	c.Operands(1, 2)
	translates := len(c.Args) == 2 && !options.Has('d')
	if len(c.Args) == 1 && !options.Has('d') && !options.Has('s') {
		c.Misused(1, "missing operand")
	}
	var from [256]bool
	first := expandSet(c, c.Args[0])
	for _, b := range first {
		from[b] = true
	}
	if options.Has('c') || options.Has('C') {
		first = first[:0]
		for b := range 256 {
			from[b] = !from[b]
			if from[b] {
				first = append(first, byte(b))
			}
		}
	}
	var second []byte
	if len(c.Args) == 2 {
		second = expandSet(c, c.Args[1])
	}
	var becomes [256]byte
	for b := range becomes {
		becomes[b] = byte(b)
	}
	if translates {
		if len(second) == 0 {
			c.Die(1, "the second set is empty")
		}
		for at, b := range first {
			becomes[b] = second[min(at, len(second)-1)]
		}
	}
	squeezed := from
	if len(c.Args) == 2 {
		squeezed = [256]bool{}
		for _, b := range second {
			squeezed[b] = true
		}
	}
	previous := -1
	block, out := call.Block(), call.Block()
	for {
		n, err := c.Stdin.Read(block)
		kept := out[:0]
		for _, b := range block[:n] {
			if options.Has('d') && from[b] {
				continue
			}
			b = becomes[b]
			if options.Has('s') && int(b) == previous && squeezed[b] {
				continue
			}
			previous = int(b)
			kept = append(kept, b)
		}
		c.Out.Write(kept)
		if err == io.EOF {
			return 0
		}
		if err != nil {
			c.Fail("standard input", err)
			return 1
		}
	}
}

// expandSet is what a SET of tr stands for: characters, ranges, classes, escapes.
func expandSet(c *call.Call, text string) []byte {
	var set []byte
	for at := 0; at < len(text); {
		if strings.HasPrefix(text[at:], "[:") {
			if end := strings.Index(text[at:], ":]"); end > 0 {
				set = append(set, classOf(c, text[at+2:at+end])...)
				at += end + 2
				continue
			}
		}
		low, next := setByte(text, at)
		if next+1 < len(text) && text[next] == '-' {
			high, after := setByte(text, next+1)
			if high < low {
				c.Die(1, "range-endpoints of '%s' are in reverse order", text[at:after])
			}
			for b := int(low); b <= int(high); b++ {
				set = append(set, byte(b))
			}
			at = after
			continue
		}
		set = append(set, low)
		at = next
	}
	return set
}

func setByte(text string, at int) (byte, int) {
	if text[at] != '\\' || at+1 == len(text) {
		return text[at], at + 1
	}
	at++
	if digits := octal(text[at:]); digits > 0 {
		value, err := strconv.ParseUint(text[at:at+digits], 8, 16)
		if err == nil {
			return byte(value), at + digits
		}
	}
	if plain := strings.IndexByte("abfnrtv", text[at]); plain >= 0 {
		return "\a\b\f\n\r\t\v"[plain], at + 1
	}
	return text[at], at + 1
}

func octal(text string) int {
	digits := 0
	for digits < min(3, len(text)) && text[digits] >= '0' && text[digits] <= '7' {
		digits++
	}
	return digits
}

func classOf(c *call.Call, name string) []byte {
	in, known := map[string]func(b byte) bool{
		"alnum":  func(b byte) bool { return isAlpha(b) || isDigit(b) },
		"alpha":  isAlpha,
		"blank":  func(b byte) bool { return b == ' ' || b == '\t' },
		"cntrl":  func(b byte) bool { return b < 32 || b == 127 },
		"digit":  isDigit,
		"graph":  func(b byte) bool { return b > 32 && b < 127 },
		"lower":  func(b byte) bool { return b >= 'a' && b <= 'z' },
		"print":  func(b byte) bool { return b >= 32 && b < 127 },
		"punct":  func(b byte) bool { return b > 32 && b < 127 && !isAlpha(b) && !isDigit(b) },
		"space":  func(b byte) bool { return b == ' ' || (b >= '\t' && b <= '\r') },
		"upper":  func(b byte) bool { return b >= 'A' && b <= 'Z' },
		"xdigit": func(b byte) bool { return isDigit(b) || (b|32 >= 'a' && b|32 <= 'f') },
	}[name]
	if !known {
		c.Die(1, "invalid character class '%s'", name)
	}
	var class []byte
	for b := range 256 {
		if in(byte(b)) {
			class = append(class, byte(b))
		}
	}
	return class
}

func isAlpha(b byte) bool { return b|32 >= 'a' && b|32 <= 'z' }

func isDigit(b byte) bool { return b >= '0' && b <= '9' }
