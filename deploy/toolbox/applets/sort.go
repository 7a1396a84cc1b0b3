package applets

import (
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"vkubelet.local/toolbox/call"
)

// key is one -k: fields and characters from 1 on; `toField` 0 is the line's end.
type key struct {
	fromField, fromCharacter int
	toField, toCharacter     int
	flags                    string // of "bfhnr"; the whole call's where it has none
}

type sorter struct {
	separator string
	keys      []key
	flags     string
	stable    bool
	unique    bool
}

const sortFlags = "bfhnr"

func sort(c *call.Call) int {
	options := c.Options("bcfhnrsuk:t:o:", call.Long{
		"numeric-sort": 'n', "reverse": 'r', "unique": 'u', "key": 'k', "field-separator": 't', "output": 'o',
		"ignore-case": 'f', "human-numeric-sort": 'h', "stable": 's', "check": 'c', "ignore-leading-blanks": 'b',
	}, 2)
	s := sorter{separator: options.Value('t', ""), unique: options.Has('u'), stable: options.Has('s')}
	for _, flag := range sortFlags {
		if options.Has(flag) {
			s.flags += string(flag)
		}
	}
	for _, text := range options.Values('k') {
		s.keys = append(s.keys, parseKey(c, text))
	}
	if len(s.keys) == 0 {
		s.keys = []key{{fromField: 1, fromCharacter: 1}}
	}
	var lines []string
	eachLine(c, c.Args, func(line string) bool {
		lines = append(lines, line)
		return true
	})
	if c.Failed() {
		c.End(2)
	}
	if options.Has('c') {
		for at := 1; at < len(lines); at++ {
			order := s.compare(lines[at-1], lines[at])
			if order > 0 || (s.unique && order == 0) {
				c.Die(1, "%s:%d: disorder: %s", inputs(c.Args)[0], at+1, lines[at])
			}
		}
		return 0
	}
	slices.SortStableFunc(lines, s.compare)
	if s.unique {
		lines = slices.CompactFunc(lines, func(a, b string) bool { return s.byKeys(a, b) == 0 })
	}
	out := io.Writer(c.Out)
	if name := options.Value('o', ""); name != "" {
		file, err := call.OpenFile(c.Path(name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644, c.Files())
		if err != nil {
			c.Fail(name, err)
			return 2
		}
		defer file.Close()
		out = file
	}
	if _, err := io.WriteString(out, joined(lines)); err != nil {
		c.Fail(options.Value('o', ""), err)
		return 2
	}
	return 0
}

func joined(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}

func parseKey(c *call.Call, text string) key {
	from, to, hasTo := strings.Cut(text, ",")
	k := key{fromCharacter: 1}
	ok := true
	take := func(part string, field, character *int) {
		digits := strings.TrimRight(part, sortFlags)
		k.flags += part[len(digits):]
		fieldText, characterText, hasCharacter := strings.Cut(digits, ".")
		var err error
		if *field, err = strconv.Atoi(fieldText); err != nil || *field < 1 {
			ok = false
		}
		if hasCharacter {
			if *character, err = strconv.Atoi(characterText); err != nil || *character < 0 {
				ok = false
			}
		}
	}
	take(from, &k.fromField, &k.fromCharacter)
	if hasTo {
		take(to, &k.toField, &k.toCharacter)
	}
	if !ok || k.fromCharacter < 1 {
		c.Die(2, "invalid key '%s'", text)
	}
	return k
}

func (s *sorter) compare(a, b string) int {
	order := s.byKeys(a, b)
	if order == 0 && !s.stable && !s.unique {
		order = strings.Compare(a, b)
		if strings.Contains(s.flags, "r") {
			order = -order
		}
	}
	return order
}

func (s *sorter) byKeys(a, b string) int {
	for _, k := range s.keys {
		flags := k.flags
		if flags == "" {
			flags = s.flags
		}
		order := compareBy(s.extract(a, k, flags), s.extract(b, k, flags), flags)
		if strings.Contains(flags, "r") {
			order = -order
		}
		if order != 0 {
			return order
		}
	}
	return 0
}

func compareBy(a, b, flags string) int {
	switch {
	case strings.Contains(flags, "h"):
		return compareFloats(humanValue(a), humanValue(b))
	case strings.Contains(flags, "n"):
		return compareFloats(leadingNumber(a), leadingNumber(b))
	case strings.Contains(flags, "f"):
		return strings.Compare(strings.ToUpper(a), strings.ToUpper(b))
	}
	return strings.Compare(a, b)
}

func compareFloats(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// extract is the part of a line that a key names.
func (s *sorter) extract(line string, k key, flags string) string {
	start := s.fieldStart(line, k.fromField)
	if strings.Contains(flags, "b") {
		start += len(line[start:]) - len(strings.TrimLeft(line[start:], " \t"))
	}
	start = min(start+k.fromCharacter-1, len(line))
	end := len(line)
	if k.toField > 0 {
		if k.toCharacter == 0 {
			end = s.fieldEnd(line, k.toField)
		} else {
			end = min(s.fieldStart(line, k.toField)+k.toCharacter, len(line))
		}
	}
	return line[start:max(start, end)]
}

// fieldStart is where a field begins; without a separator the blanks before a field belong to it.
func (s *sorter) fieldStart(line string, field int) int {
	at := 0
	for range field - 1 {
		at = s.fieldEndFrom(line, at)
		if s.separator != "" && at < len(line) {
			at += len(s.separator)
		}
	}
	return at
}

func (s *sorter) fieldEnd(line string, field int) int {
	return s.fieldEndFrom(line, s.fieldStart(line, field))
}

func (s *sorter) fieldEndFrom(line string, at int) int {
	if s.separator != "" {
		if next := strings.Index(line[at:], s.separator); next >= 0 {
			return at + next
		}
		return len(line)
	}
	for at < len(line) && (line[at] == ' ' || line[at] == '\t') {
		at++
	}
	for at < len(line) && line[at] != ' ' && line[at] != '\t' {
		at++
	}
	return at
}

// leadingNumber is what -n compares: a number at the beginning, else 0.
func leadingNumber(text string) float64 {
	text = strings.TrimLeft(text, " \t")
	end := 0
	for end < len(text) && (text[end] >= '0' && text[end] <= '9' || text[end] == '.' || (end == 0 && text[end] == '-')) {
		end++
	}
	value, err := strconv.ParseFloat(text[:end], 64)
	if err != nil {
		return 0 // no number
	}
	return value
}

// humanValue is what -h compares: a number with a unit.
func humanValue(text string) float64 {
	value := leadingNumber(text)
	rest := strings.TrimLeft(strings.TrimLeft(text, " \t"), "-.0123456789")
	if rest == "" {
		return value
	}
	for at := strings.IndexByte("KMGTPE", strings.ToUpper(rest)[0]); at >= 0; at-- {
		value *= 1024
	}
	return value
}

func uniq(c *call.Call) int {
	options := c.Options("cdiuf:s:", call.Long{
		"count": 'c', "repeated": 'd', "unique": 'u', "ignore-case": 'i', "skip-fields": 'f', "skip-chars": 's',
	}, 1)
	c.Operands(0, 2)
	fields, characters := c.Number(options, 'f', 0, 0), c.Number(options, 's', 0, 0)
	out := io.Writer(c.Out)
	if len(c.Args) == 2 {
		file, err := call.OpenFile(c.Path(c.Args[1]), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644, c.Files())
		if err != nil {
			c.Fail(c.Args[1], err)
			return 1
		}
		defer file.Close()
		out = file
		c.Args = c.Args[:1]
	}
	compared := func(line string) string {
		s := sorter{}
		line = line[s.fieldStart(line, fields+1):]
		line = line[min(characters, len(line)):]
		if options.Has('i') {
			return strings.ToLower(line)
		}
		return line
	}
	first, count := "", 0
	var failure error
	show := func() {
		if count == 0 || (options.Has('d') && count == 1) || (options.Has('u') && count > 1) {
			return
		}
		text := first + "\n"
		if options.Has('c') {
			number := strconv.Itoa(count)
			text = strings.Repeat(" ", max(0, 7-len(number))) + number + " " + text
		}
		if _, err := io.WriteString(out, text); err != nil && failure == nil {
			failure = err
		}
	}
	eachLine(c, c.Args, func(line string) bool {
		if count > 0 && compared(line) == compared(first) {
			count++
			return true
		}
		show()
		first, count = line, 1
		return failure == nil
	})
	show()
	if failure != nil {
		c.Error("write error: %s", call.Reason(failure))
	}
	return 0
}
