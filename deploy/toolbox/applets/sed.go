package applets

import (
	"bytes"
	"io"
	"os"
	"strings"

	"vkubelet.local/toolbox/call"
)

// editing is one run of sed over its inputs.
type editing struct {
	*call.Call
	program *sedProgram
	quiet   bool
	out     io.Writer

	lines    *sedInput
	pattern  string // the space that is edited
	hold     string
	replaced bool // since the last line or `t`
	appended []string
	number   int
}

func sed(c *call.Call) int {
	// -i takes its value only when it is attached.
	inPlace, suffix := false, ""
	args := c.Args[:0:0]
	for at, arg := range c.Args {
		if arg == "--" {
			args = append(args, c.Args[at:]...)
			break
		}
		if value, ok := strings.CutPrefix(arg, "-i"); ok {
			inPlace, suffix = true, value
		} else if value, ok := strings.CutPrefix(arg, "--in-place"); ok {
			inPlace, suffix = true, strings.TrimPrefix(value, "=")
		} else {
			args = append(args, arg)
		}
	}
	c.Args = args
	options := c.Options("nErse:f:", call.Long{
		"quiet": 'n', "silent": 'n', "regexp-extended": 'E', "expression": 'e', "file": 'f', "separate": 's',
	}, 1)
	scripts := options.Values('e')
	for _, name := range options.Values('f') {
		file, err := c.Open(name)
		var text []byte
		if err == nil {
			text, err = io.ReadAll(file)
			file.Close()
		}
		if err != nil {
			c.Fail(name, err)
			c.End(1)
		}
		scripts = append(scripts, strings.TrimSuffix(string(text), "\n"))
	}
	if len(scripts) == 0 {
		c.Operands(1, -1)
		scripts, c.Args = c.Args[:1], c.Args[1:]
	}
	program, err := parseSed(strings.Join(scripts, "\n"), options.Has('E') || options.Has('r'))
	if err != nil {
		c.Die(1, "bad script: %v", err)
	}
	e := &editing{Call: c, program: program, quiet: options.Has('n') || program.quiet, out: c.Out}
	switch {
	case inPlace:
		c.Operands(1, -1)
		for _, name := range c.Args {
			if !e.inPlace(name, suffix) {
				break
			}
		}
	case options.Has('s'):
		for _, name := range inputs(c.Args) {
			e.number = 0
			if !e.run([]string{name}) {
				break
			}
		}
	default:
		e.run(inputs(c.Args))
	}
	return program.status
}

// inPlace edits a file: the result takes its place whole.
func (e *editing) inPlace(name, suffix string) bool {
	where := e.Path(name)
	info, err := os.Stat(where)
	if err == nil && !info.Mode().IsRegular() {
		e.Error("couldn't edit %s: not a regular file", name)
		return true
	}
	if err != nil {
		e.Fail(name, err)
		return true
	}
	fresh, err := os.CreateTemp(where[:strings.LastIndexByte(where, '/')+1], "sed*")
	if err != nil {
		e.Fail(name, err)
		return true
	}
	var text bytes.Buffer
	e.out, e.number = &text, 0
	more := e.run([]string{name})
	_, err = fresh.Write(text.Bytes())
	if failed := fresh.Close(); err == nil {
		err = failed
	}
	if err == nil && suffix != "" {
		backup := where + suffix
		if strings.Contains(suffix, "*") {
			backup = where[:strings.LastIndexByte(where, '/')+1] + strings.ReplaceAll(suffix, "*", lastPart(where))
		}
		err = os.Rename(where, backup)
	}
	if err == nil {
		err = os.Rename(fresh.Name(), where)
	}
	if err != nil {
		e.Fail(name, err)
	}
	return more
}

// run edits the lines of the inputs, one after the other, and tells whether the script goes on with others.
func (e *editing) run(names []string) bool {
	e.lines = &sedInput{call: e.Call, names: names}
	defer e.lines.close()
	for {
		line, ok := e.lines.next()
		if !ok {
			return true
		}
		e.pattern = line
		e.number++
		e.replaced = false
	again:
		outcome := e.cycle(e.program.commands)
		if outcome == sedRestart && e.pattern != "" {
			e.flushAppended()
			goto again
		}
		if !e.quiet && outcome != sedDelete && outcome != sedRestart && outcome != sedQuitSilently {
			e.show(e.pattern)
		}
		e.flushAppended()
		if outcome == sedQuit || outcome == sedQuitSilently {
			return false
		}
	}
}

// show writes a line; the last one ends as its input does.
func (e *editing) show(text string) {
	if e.lines.unended && e.lines.last() {
		io.WriteString(e.out, text)
		return
	}
	io.WriteString(e.out, text+"\n")
}

func (e *editing) flushAppended() {
	for _, text := range e.appended {
		io.WriteString(e.out, text)
	}
	e.appended = nil
}

// sedInput are the lines of several files, with one line of foresight for `$`.
type sedInput struct {
	call    *call.Call
	names   []string
	file    io.ReadCloser
	lines   lineReader
	ahead   *string
	unended bool // the line that was read last has no end
}

func (s *sedInput) read() (string, bool) {
	for {
		if s.file == nil {
			if len(s.names) == 0 {
				return "", false
			}
			name := s.names[0]
			s.names = s.names[1:]
			file, err := s.call.Open(name)
			if err != nil {
				s.call.Error("can't read %s: %s", name, call.Reason(err))
				continue
			}
			s.file, s.lines = file, newLineReader(file)
		}
		line, ended, err := s.lines.next()
		if err == nil {
			s.unended = !ended
			return line, true
		}
		if err != io.EOF {
			s.call.Error("read error: %s", call.Reason(err))
		}
		s.close()
	}
}

func (s *sedInput) next() (string, bool) {
	if s.ahead != nil {
		line := *s.ahead
		s.ahead = nil
		return line, true
	}
	return s.read()
}

// last tells whether no line follows.
func (s *sedInput) last() bool {
	if s.ahead == nil {
		before := s.unended
		line, ok := s.read()
		if !ok {
			s.unended = before
			return true
		}
		s.ahead = &line
	}
	return false
}

func (s *sedInput) close() {
	if s.file != nil {
		s.file.Close()
		s.file = nil
	}
}
