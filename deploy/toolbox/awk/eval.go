package awk

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

func (in *interpreter) eval(of expr) value {
	switch e := of.(type) {
	case *constant:
		return e.value
	case *match:
		return truth(e.with.MatchString(in.record))
	case *variable:
		return in.get(e)
	case *field:
		return in.field(index(in.eval(e.index).number()))
	case *element:
		array, key := in.arrayOf(e.array), in.key(e.index)
		found, there := array[key]
		if !there {
			found = value{isBoth: true} // asking makes it
			array[key] = found
		}
		return found
	case *group:
		return in.eval(e.of)
	case *list:
		panic(fault("a list is no value"))
	case *assign:
		found := in.eval(e.from)
		if e.operator != "" {
			found = numeric(calculate(e.operator, in.eval(e.target).number(), found.number()))
		}
		in.set(e.target, found)
		return found
	case *increment:
		before := in.eval(e.target).number()
		in.set(e.target, numeric(before+e.by))
		if e.before {
			return numeric(before + e.by)
		}
		return numeric(before)
	case *unary:
		found := in.eval(e.of)
		switch e.operator {
		case "!":
			return truth(!found.isTrue())
		case "-":
			return numeric(-found.number())
		}
		return numeric(found.number())
	case *binary:
		return in.binary(e)
	case *logical:
		if in.eval(e.left).isTrue() != e.and {
			return truth(!e.and)
		}
		return truth(in.eval(e.right).isTrue())
	case *conditional:
		if in.eval(e.test).isTrue() {
			return in.eval(e.yes)
		}
		return in.eval(e.no)
	case *matches:
		return truth(in.pattern(e.with).MatchString(in.string(e.of)) != e.not)
	case *contains:
		_, there := in.arrayOf(e.array)[in.key(e.index)]
		return truth(there)
	case *call:
		return in.call(e)
	case *getline:
		return numeric(in.getline(e))
	}
	panic(fault("an expression that is none"))
}

func (in *interpreter) binary(e *binary) value {
	left, right := in.eval(e.left), in.eval(e.right)
	switch e.operator {
	case " ":
		convert := in.text("CONVFMT")
		return str(left.string(convert) + right.string(convert))
	case "+", "-", "*", "/", "%", "^":
		return numeric(calculate(e.operator, left.number(), right.number()))
	}
	order := 0
	if (left.isNumber || left.isBoth) && (right.isNumber || right.isBoth) {
		order = cmp.Compare(left.num, right.num)
	} else {
		convert := in.text("CONVFMT")
		order = strings.Compare(left.string(convert), right.string(convert))
	}
	switch e.operator {
	case "<":
		return truth(order < 0)
	case "<=":
		return truth(order <= 0)
	case "==":
		return truth(order == 0)
	case "!=":
		return truth(order != 0)
	case ">=":
		return truth(order >= 0)
	}
	return truth(order > 0)
}

func calculate(operator string, left, right float64) float64 {
	switch operator {
	case "+":
		return left + right
	case "-":
		return left - right
	case "*":
		return left * right
	case "^":
		return math.Pow(left, right)
	}
	if right == 0 {
		panic(fault("division by zero"))
	}
	if operator == "%" {
		return math.Mod(left, right)
	}
	return left / right
}

func (in *interpreter) key(of []expr) string {
	if len(of) == 1 {
		return in.string(of[0])
	}
	words := make([]string, 0, len(of))
	for _, part := range of {
		words = append(words, in.string(part))
	}
	return strings.Join(words, in.text("SUBSEP"))
}

func (in *interpreter) get(v *variable) value {
	if v.local >= 0 {
		return in.frame.values[v.local]
	}
	if v.name == "NF" {
		in.separate()
		return numeric(float64(in.count))
	}
	if found, there := in.globals[v.name]; there {
		return found
	}
	return value{isBoth: true} // empty, and 0
}

func (in *interpreter) set(target expr, to value) {
	switch t := target.(type) {
	case *variable:
		if t.local >= 0 {
			in.frame.values[t.local] = to
			return
		}
		in.setGlobal(t.name, to)
	case *field:
		in.setField(index(in.eval(t.index).number()), to)
	case *element:
		in.arrayOf(t.array)[in.key(t.index)] = to
	case *group:
		in.set(t.of, to)
	default:
		panic(fault("only variables, fields and elements can be changed"))
	}
}

func (in *interpreter) setGlobal(name string, to value) {
	if name != "NF" {
		in.globals[name] = to
		return
	}
	count := index(to.number())
	if count < 0 || count > maximumField {
		panic(fault("NF cannot be that"))
	}
	in.separate()
	in.resize(count)
	in.join()
}

func (in *interpreter) array(name string) map[string]value {
	found, there := in.arrays[name]
	if !there {
		found = map[string]value{}
		in.arrays[name] = found
	}
	return found
}

func (in *interpreter) arrayOf(v *variable) map[string]value {
	if v.local < 0 {
		return in.array(v.name)
	}
	if in.frame.arrays[v.local] == nil {
		in.frame.arrays[v.local] = map[string]value{}
	}
	return in.frame.arrays[v.local]
}

// sortedKeys are an array's: numbers by their size, then the rest.
func sortedKeys(array map[string]value) []string {
	keys := make([]string, 0, len(array))
	for key := range array {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int {
		left, right := read(a), read(b)
		switch {
		case left.isBoth && right.isBoth && left.num != right.num:
			return cmp.Compare(left.num, right.num)
		case left.isBoth != right.isBoth && left.isBoth:
			return -1
		case left.isBoth != right.isBoth:
			return 1
		}
		return strings.Compare(a, b)
	})
	return keys
}

// invoke calls a function of the program. An argument that is a bare name may be an array: both are passed.
func (in *interpreter) invoke(called string, to *procedure, args []expr) (result value) {
	if len(args) > len(to.parameters) {
		panic(fault("function " + called + " has fewer parameters"))
	}
	if in.depth++; in.depth > maximumDepth {
		panic(fault("function " + called + " calls itself without end"))
	}
	fresh := &frame{make([]value, len(to.parameters)), make([]map[string]value, len(to.parameters))}
	for i := range fresh.values {
		fresh.values[i] = value{isBoth: true}
	}
	for i, arg := range args {
		if name, bare := arg.(*variable); bare {
			if _, isValue := in.globals[name.name]; name.local >= 0 || !isValue {
				fresh.arrays[i] = in.arrayOf(name)
			}
		}
		fresh.values[i] = in.eval(arg)
	}
	before := in.frame
	in.frame = fresh
	defer func() {
		in.frame = before
		in.depth--
		switch reason := recover().(type) {
		case nil:
		case returned:
			result = reason.value
		default:
			panic(reason)
		}
	}()
	in.block(to.body)
	return value{isBoth: true}
}
