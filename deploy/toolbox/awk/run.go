package awk

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"regexp"
	"strings"
)

// Config is what a program works with. Its files are given by name, "-" being standard input.
type Config struct {
	Args     []string // the operands: files, and assignments NAME=VALUE
	Assign   []string // assignments that precede the program
	Environ  []string
	Stdout   *bufio.Writer
	Open     func(name string) (io.ReadCloser, error)
	Create   func(name string, more bool) (io.WriteCloser, error)
	Run      func(command string, stdout io.Writer) int // what it writes goes to stdout, nil for the program's own
	Compile  Compile
	Complain func(text string)
}

type frame struct {
	values []value
	arrays []map[string]value
}

type writer struct {
	*bufio.Writer
	closer io.Closer
}

type source struct {
	*bufio.Reader
	closer io.Closer
}

type interpreter struct {
	Config
	program  *Program
	globals  map[string]value
	arrays   map[string]map[string]value
	frame    *frame
	depth    int
	record   string
	fields   []string // of the record, once they are asked for
	split    bool
	count    int // NF where the record is split
	input    source
	hasInput bool
	operand  int // of the next file
	used     bool
	regulars map[string]*regexp.Regexp
	outputs  map[string]writer
	inputs   map[string]source
	random   randomness
}

// The ways out of the middle of something.
type (
	loopEnd   struct{ again bool }
	recordEnd struct{ file bool }
	exit      struct{}
	returned  struct{ value value }
)

const (
	maximumDepth = 2000
	failed       = 2 // the status of a program that cannot go on
)

// Run runs the program and returns its status. The error is for what cannot be done, with the output before it.
func (p *Program) Run(config Config) (status int, err error) {
	in := &interpreter{
		Config: config, program: p, globals: map[string]value{}, arrays: map[string]map[string]value{},
		regulars: map[string]*regexp.Regexp{}, outputs: map[string]writer{}, inputs: map[string]source{},
		random: newRandomness(0),
	}
	for name, text := range map[string]string{
		"FS": " ", "OFS": " ", "ORS": "\n", "RS": "\n", "SUBSEP": "\x1c", "CONVFMT": "%.6g", "OFMT": "%.6g", "FILENAME": "",
	} {
		in.globals[name] = str(text)
	}
	for _, name := range []string{"NR", "FNR", "RSTART"} {
		in.globals[name] = numeric(0)
	}
	in.globals["RLENGTH"] = numeric(-1)
	defer func() {
		in.closeAll()
		switch reason := recover().(type) {
		case nil:
		case fault:
			status, err = failed, reason
		case loopEnd, recordEnd, returned:
			status, err = failed, fault("break, continue, next and return belong into loops, rules and functions")
		default:
			panic(reason)
		}
	}()
	environ := in.array("ENVIRON")
	for _, entry := range config.Environ {
		name, text, _ := strings.Cut(entry, "=")
		environ[name] = read(text)
	}
	in.globals["ARGC"] = numeric(float64(len(config.Args)))
	argv := in.array("ARGV")
	for i, arg := range config.Args {
		argv[numeric(float64(i)).string("")] = read(arg)
	}
	for _, text := range config.Assign {
		in.assignment(text)
	}
	in.operand = 1
	return in.all(), nil
}

func (in *interpreter) all() (status int) {
	over := func(do func()) (ended bool) {
		defer func() {
			switch reason := recover().(type) {
			case nil:
			case exit:
				ended = true
			default:
				panic(reason)
			}
		}()
		do()
		return false
	}
	ended := over(func() {
		for _, action := range in.program.begin {
			in.block(action)
		}
	})
	if !ended && (len(in.program.rules) > 0 || len(in.program.end) > 0) {
		ended = over(in.records)
	}
	// What ends the program early ends its input only, but for a second time.
	over(func() {
		for _, action := range in.program.end {
			in.block(action)
		}
	})
	return int(in.globals["\x00status"].num) & 0xff
}

func (in *interpreter) records() {
	for {
		line, ok := in.nextRecord()
		if !ok {
			return
		}
		in.setRecord(line)
		in.rules()
	}
}

func (in *interpreter) rules() {
	defer func() {
		switch reason := recover().(type) {
		case nil:
		case recordEnd:
			if reason.file {
				in.closeInput()
			}
		default:
			panic(reason)
		}
	}()
	for _, r := range in.program.rules {
		if !in.applies(r) {
			continue
		}
		if r.action == nil {
			in.write(in.Stdout, in.record)
			in.write(in.Stdout, in.text("ORS"))
			continue
		}
		in.block(r.action)
	}
}

func (in *interpreter) applies(r *rule) bool {
	switch {
	case r.from == nil:
		return true
	case r.to == nil:
		return in.eval(r.from).isTrue()
	case !r.within && !in.eval(r.from).isTrue():
		return false
	}
	r.within = !in.eval(r.to).isTrue()
	return true
}

func (in *interpreter) block(b *block) {
	for _, s := range b.of {
		in.run(s)
	}
}

func (in *interpreter) run(s statement) {
	switch s := s.(type) {
	case *simple:
		in.eval(s.of)
	case *block:
		in.block(s)
	case *output:
		in.output(s)
	case *branch:
		if in.eval(s.test).isTrue() {
			in.run(s.yes)
		} else if s.no != nil {
			in.run(s.no)
		}
	case *loop:
		in.loop(s)
	case *each:
		for _, key := range sortedKeys(in.arrayOf(s.array)) {
			if _, there := in.arrayOf(s.array)[key]; !there {
				continue
			}
			in.set(s.variable, read(key))
			if in.body(s.body) {
				break
			}
		}
	case *remove:
		array := in.arrayOf(s.array)
		if s.index == nil {
			clear(array)
		} else {
			delete(array, in.key(s.index))
		}
	case *leave:
		in.leave(s)
	}
}

func (in *interpreter) loop(s *loop) {
	if s.first != nil {
		in.run(s.first)
	}
	for first := s.once; first || s.test == nil || in.eval(s.test).isTrue(); first = false {
		if in.body(s.body) {
			return
		}
		if s.after != nil {
			in.run(s.after)
		}
	}
}

// body runs a loop's body and tells whether the loop is to end.
func (in *interpreter) body(s statement) (ends bool) {
	defer func() {
		switch reason := recover().(type) {
		case nil:
		case loopEnd:
			ends = !reason.again
		default:
			panic(reason)
		}
	}()
	in.run(s)
	return false
}

func (in *interpreter) leave(s *leave) {
	switch s.how {
	case "break", "continue":
		panic(loopEnd{again: s.how == "continue"})
	case "next", "nextfile":
		panic(recordEnd{file: s.how == "nextfile"})
	case "exit":
		if s.with != nil {
			in.globals["\x00status"] = numeric(in.eval(s.with).number())
		}
		panic(exit{})
	case "return":
		var found value
		if s.with != nil {
			found = in.eval(s.with)
		}
		panic(returned{found})
	}
}

func (in *interpreter) regular(pattern string) *regexp.Regexp {
	if known, there := in.regulars[pattern]; there {
		return known
	}
	compiled, err := in.Compile(pattern)
	if err != nil {
		panic(fault(fmt.Sprintf("regular expression /%s/: %v", pattern, err)))
	}
	in.regulars[pattern] = compiled
	return compiled
}

func (in *interpreter) pattern(of expr) *regexp.Regexp {
	if literal, ok := of.(*match); ok {
		return literal.with
	}
	return in.regular(in.string(of))
}

func (in *interpreter) text(name string) string { return in.globals[name].string("%.6g") }

func (in *interpreter) string(of expr) string { return in.eval(of).string(in.text("CONVFMT")) }

func index(n float64) int {
	if math.IsNaN(n) || n > math.MaxInt32 || n < math.MinInt32 {
		return math.MaxInt32
	}
	return int(n)
}
