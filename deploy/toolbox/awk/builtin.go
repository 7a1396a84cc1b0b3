package awk

import (
	"bufio"
	"io"
	"math"
	"math/rand"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"
)

type randomness struct {
	*rand.Rand
	seed float64
}

func newRandomness(seed float64) randomness {
	return randomness{rand.New(rand.NewSource(int64(seed))), seed}
}

func (in *interpreter) call(e *call) value {
	if to, own := in.program.procedures[e.name]; own {
		return in.invoke(e.name, to, e.args)
	}
	do, known := builtins[e.name]
	if !known {
		panic(fault("there is no function " + e.name))
	}
	if len(e.args) < do.least || len(e.args) > do.most {
		panic(fault("function " + e.name + " takes another number of arguments"))
	}
	return do.run(in, e.args)
}

type builtin struct {
	least, most int
	run         func(in *interpreter, args []expr) value
}

func calculation(do func(float64) float64) builtin {
	return builtin{1, 1, func(in *interpreter, args []expr) value { return numeric(do(in.eval(args[0]).number())) }}
}

var builtins map[string]builtin

func init() { // in place of a variable's value, which would refer to itself
	builtins = map[string]builtin{
		"length": {0, 1, length}, "substr": {2, 3, substr}, "index": {2, 2, indexOf}, "split": {2, 3, splitInto},
		"sub": {2, 3, substitution(false)}, "gsub": {2, 3, substitution(true)}, "match": {2, 2, matchAt},
		"sprintf": {1, math.MaxInt32, formatted}, "close": {1, 1, closeOne}, "system": {1, 1, system},
		"fflush": {0, 1, flush}, "srand": {0, 1, seed}, "systime": {0, 0, now},
		"rand":    {0, 0, func(in *interpreter, _ []expr) value { return numeric(in.random.Float64()) }},
		"tolower": {1, 1, func(in *interpreter, args []expr) value { return str(strings.ToLower(in.string(args[0]))) }},
		"toupper": {1, 1, func(in *interpreter, args []expr) value { return str(strings.ToUpper(in.string(args[0]))) }},
		"atan2": {2, 2, func(in *interpreter, args []expr) value {
			return numeric(math.Atan2(in.eval(args[0]).number(), in.eval(args[1]).number()))
		}},
		"int": calculation(math.Trunc), "sqrt": calculation(math.Sqrt), "exp": calculation(math.Exp),
		"log": calculation(math.Log), "sin": calculation(math.Sin), "cos": calculation(math.Cos),
	}
}

func length(in *interpreter, args []expr) value {
	if len(args) == 0 {
		return numeric(float64(utf8.RuneCountInString(in.record)))
	}
	if name, bare := args[0].(*variable); bare {
		if name.local >= 0 && len(in.frame.arrays[name.local]) > 0 {
			return numeric(float64(len(in.frame.arrays[name.local])))
		}
		if array, there := in.arrays[name.name]; there && name.local < 0 {
			return numeric(float64(len(array)))
		}
	}
	return numeric(float64(utf8.RuneCountInString(in.string(args[0]))))
}

func substr(in *interpreter, args []expr) value {
	characters := []rune(in.string(args[0]))
	begin := math.RoundToEven(in.eval(args[1]).number())
	end := math.Inf(1)
	if len(args) == 3 {
		end = begin + math.RoundToEven(in.eval(args[2]).number())
	}
	begin = max(begin, 1)
	end = min(end, float64(len(characters)+1))
	if !(begin < end) { // neither where one of them is no number
		return str("")
	}
	return str(string(characters[int(begin)-1 : int(end)-1]))
}

func indexOf(in *interpreter, args []expr) value {
	text := in.string(args[0])
	at := strings.Index(text, in.string(args[1]))
	if at < 0 {
		return numeric(0)
	}
	return numeric(float64(utf8.RuneCountInString(text[:at]) + 1))
}

func splitInto(in *interpreter, args []expr) value {
	name, ok := args[1].(*variable)
	if !ok {
		panic(fault("split needs an array"))
	}
	text := in.string(args[0])
	separator, by := in.text("FS"), (*regexp.Regexp)(nil)
	if len(args) == 3 {
		if literal, ok := args[2].(*match); ok {
			by = literal.with
		} else {
			separator = in.string(args[2])
		}
	}
	parts := in.cut(text, separator, by, nil)
	array := in.arrayOf(name)
	clear(array)
	for i, part := range parts {
		array[numeric(float64(i+1)).string("")] = read(part)
	}
	return numeric(float64(len(parts)))
}

func substitution(all bool) func(*interpreter, []expr) value {
	return func(in *interpreter, args []expr) value {
		pattern, by := in.pattern(args[0]), in.string(args[1])
		var target expr = &field{index: &constant{numeric(0)}}
		if len(args) == 3 {
			target = args[2]
		}
		text := in.string(target)
		most := 1
		if all {
			most = -1
		}
		found := pattern.FindAllStringIndex(text, most)
		if len(found) == 0 {
			return numeric(0)
		}
		var out strings.Builder
		at := 0
		for _, place := range found {
			out.WriteString(text[at:place[0]])
			replacement(&out, by, text[place[0]:place[1]])
			at = place[1]
		}
		out.WriteString(text[at:])
		in.set(target, str(out.String()))
		return numeric(float64(len(found)))
	}
}

// replacement writes what takes a match's place: & is the match, \& an ampersand.
func replacement(out *strings.Builder, by, matched string) {
	for i := 0; i < len(by); i++ {
		switch {
		case by[i] == '\\' && i+1 < len(by) && (by[i+1] == '&' || by[i+1] == '\\'):
			i++
			out.WriteByte(by[i])
		case by[i] == '&':
			out.WriteString(matched)
		default:
			out.WriteByte(by[i])
		}
	}
}

func matchAt(in *interpreter, args []expr) value {
	text := in.string(args[0])
	begin, size := 0.0, -1.0
	if found := in.pattern(args[1]).FindStringIndex(text); found != nil {
		begin = float64(utf8.RuneCountInString(text[:found[0]]) + 1)
		size = float64(utf8.RuneCountInString(text[found[0]:found[1]]))
	}
	in.globals["RSTART"], in.globals["RLENGTH"] = numeric(begin), numeric(size)
	return numeric(begin)
}

func formatted(in *interpreter, args []expr) value {
	values := make([]value, 0, len(args))
	for _, arg := range args {
		values = append(values, in.eval(arg))
	}
	convert := in.text("CONVFMT")
	return str(sprintf(values[0].string(convert), values[1:], convert))
}

func closeOne(in *interpreter, args []expr) value { return numeric(in.close(in.string(args[0]))) }

func system(in *interpreter, args []expr) value {
	flush(in, nil)
	return numeric(float64(in.Run(in.string(args[0]), nil)))
}

func flush(in *interpreter, _ []expr) value {
	bad := in.Stdout.Flush() != nil
	for _, open := range in.outputs {
		bad = open.Flush() != nil || bad
	}
	if bad {
		return numeric(-1)
	}
	return numeric(0)
}

func seed(in *interpreter, args []expr) value {
	before := in.random.seed
	next := float64(time.Now().Unix())
	if len(args) == 1 {
		next = in.eval(args[0]).number()
	}
	in.random = newRandomness(next)
	return numeric(before)
}

func now(*interpreter, []expr) value { return numeric(float64(time.Now().Unix())) }

// getline reads a line into a variable or the record: 1, 0 at the end, -1 if that is not possible.
func (in *interpreter) getline(e *getline) float64 {
	if e.file == nil {
		line, ok := in.nextRecord()
		if !ok {
			return 0
		}
		in.receive(e.target, line)
		return 1
	}
	name := in.string(e.file)
	open, there := in.inputs[name]
	if !there {
		var ok bool
		if open, ok = in.openSource(name, e.pipe); !ok {
			return -1
		}
		in.inputs[name] = open
	}
	line, err := in.readRecord(open.Reader)
	if err != nil {
		return 0
	}
	if e.pipe {
		in.globals["NR"] = numeric(in.globals["NR"].number() + 1)
	}
	in.receive(e.target, line)
	return 1
}

func (in *interpreter) receive(target expr, line string) {
	if target == nil {
		in.setRecord(line)
		return
	}
	in.set(target, read(line))
}

// openSource opens a file, or runs a command to its end, whose output then is read.
func (in *interpreter) openSource(name string, isCommand bool) (source, bool) {
	if isCommand {
		flush(in, nil)
		var output strings.Builder
		in.Run(name, &output)
		return source{bufio.NewReader(strings.NewReader(output.String())), nil}, true
	}
	file, err := in.Open(name)
	if err != nil {
		return source{}, false
	}
	return source{bufio.NewReader(file), io.Closer(file)}, true
}
