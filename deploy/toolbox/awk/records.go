package awk

import (
	"bufio"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"
)

// maximumField is more than any record has, and less than fills memory.
const maximumField = 1 << 20

// nextRecord is the next one of all input.
func (in *interpreter) nextRecord() (string, bool) {
	for in.hasInput || in.openNext() {
		line, err := in.readRecord(in.input.Reader)
		if err == nil {
			in.globals["NR"] = numeric(in.globals["NR"].number() + 1)
			in.globals["FNR"] = numeric(in.globals["FNR"].number() + 1)
			return line, true
		}
		in.closeInput()
	}
	return "", false
}

// openNext opens the next file among the operands, and standard input where there is none.
func (in *interpreter) openNext() bool {
	argv := in.array("ARGV")
	for in.operand < index(in.globals["ARGC"].number()) {
		arg := argv[numeric(float64(in.operand)).string("")].string("")
		in.operand++
		if arg == "" || (isAssignment(arg) && in.assignment(arg)) {
			continue
		}
		in.used = true
		in.globals["FILENAME"] = str(arg)
		if in.openInput(arg) {
			return true
		}
	}
	if in.used {
		return false
	}
	in.used = true
	return in.openInput("-")
}

func (in *interpreter) openInput(name string) bool {
	file, err := in.Open(name)
	if err != nil {
		in.Complain(name + ": " + cause(err).Error())
		in.globals["\x00status"] = numeric(failed)
		return false
	}
	in.input, in.hasInput = source{bufio.NewReader(file), file}, true
	in.globals["FNR"] = numeric(0)
	return true
}

func (in *interpreter) closeInput() {
	if in.hasInput {
		in.hasInput = false
		in.input.closer.Close() //nolint:errcheck // it was only read
	}
}

func isAssignment(text string) bool {
	name, _, has := strings.Cut(text, "=")
	if !has || name == "" || !isLetter(name[0]) {
		return false
	}
	for i := range len(name) {
		if !isLetter(name[i]) && !isDigit(name[i]) {
			return false
		}
	}
	return true
}

func (in *interpreter) assignment(text string) bool {
	name, content, _ := strings.Cut(text, "=")
	in.setGlobal(name, read(unescape(content)))
	return true
}

// readRecord reads up to the separator RS: a character, blank lines if it is empty, or a regular expression.
func (in *interpreter) readRecord(from *bufio.Reader) (string, error) {
	separator := in.text("RS")
	switch {
	case separator == "":
		return paragraph(from)
	case utf8.RuneCountInString(separator) == 1 && len(separator) == 1:
		line, err := from.ReadString(separator[0])
		if err != nil && line == "" {
			return "", io.EOF
		}
		return strings.TrimSuffix(line, separator), nil
	}
	return in.untilMatch(from, in.regular(separator))
}

// paragraph reads up to blank lines, which are skipped at the beginning.
func paragraph(from *bufio.Reader) (string, error) {
	var lines []string
	for {
		line, err := from.ReadString('\n')
		content := strings.TrimSuffix(line, "\n")
		if content != "" {
			lines = append(lines, content)
		}
		if err != nil || (content == "" && len(lines) > 0) {
			if len(lines) == 0 {
				return "", io.EOF
			}
			return strings.Join(lines, "\n"), nil
		}
	}
}

// untilMatch reads up to what matches; a match at the end of what is there could be longer.
func (in *interpreter) untilMatch(from *bufio.Reader, separator *regexp.Regexp) (string, error) {
	all, err := io.ReadAll(from)
	if err != nil || len(all) == 0 {
		return "", io.EOF
	}
	found := separator.FindIndex(all)
	if found == nil || found[1] == 0 {
		return strings.TrimSuffix(string(all), "\n"), nil
	}
	from.Reset(strings.NewReader(string(all[found[1]:])))
	return string(all[:found[0]]), nil
}

func (in *interpreter) setRecord(text string) {
	in.record, in.split = text, false
}

// separate splits the record once its fields are asked for.
func (in *interpreter) separate() {
	if in.split {
		return
	}
	in.fields = in.cut(in.record, in.text("FS"), nil, in.fields[:0])
	in.count, in.split = len(in.fields), true
}

// cut splits a text by a separator, or by a regular expression if there is one.
func (in *interpreter) cut(text, separator string, by *regexp.Regexp, into []string) []string {
	switch {
	case by == nil && separator == " ":
		return append(into, strings.Fields(text)...)
	case text == "":
		return into
	case by == nil && separator == "":
		for _, character := range text {
			into = append(into, string(character))
		}
		return into
	case by == nil && len(separator) == 1 && separator != "\\":
		into = append(into, strings.Split(text, separator)...)
	default:
		if by == nil {
			by = in.regular(separator)
		}
		into = append(into, by.Split(text, -1)...)
	}
	if by == nil && in.text("RS") == "" {
		// In paragraphs an end of a line separates too.
		var more []string
		for _, part := range into {
			more = append(more, strings.Split(part, "\n")...)
		}
		return more
	}
	return into
}

func (in *interpreter) field(n int) value {
	switch {
	case n == 0:
		return read(in.record)
	case n < 0:
		panic(fault("a field has no negative number"))
	}
	in.separate()
	if n > in.count {
		return value{isBoth: true} // empty, and 0
	}
	return read(in.fields[n-1])
}

func (in *interpreter) setField(n int, v value) {
	text := v.string(in.text("CONVFMT"))
	switch {
	case n == 0:
		in.setRecord(text)
		return
	case n < 0 || n > maximumField:
		panic(fault("a field has no such number"))
	}
	in.separate()
	in.resize(max(n, in.count))
	in.fields[n-1] = text
	in.join()
}

// resize makes the record have so many fields.
func (in *interpreter) resize(count int) {
	for len(in.fields) < count {
		in.fields = append(in.fields, "")
	}
	for i := in.count; i < count; i++ {
		in.fields[i] = ""
	}
	in.fields, in.count = in.fields[:count], count
}

func (in *interpreter) join() { in.record = strings.Join(in.fields, in.text("OFS")) }
