package awk

import (
	"math"
	"strconv"
	"strings"
)

// value is a number, a string, or what was read and looks like a number, which is both.
type value struct {
	text     string
	num      float64
	isNumber bool // num says all; text is made of it when it is asked for
	isBoth   bool // text was read, and is a number
}

func numeric(n float64) value { return value{num: n, isNumber: true} }

func str(s string) value { return value{text: s} }

func truth(b bool) value {
	if b {
		return numeric(1)
	}
	return numeric(0)
}

// read is a value of the input.
func read(s string) value {
	trimmed := strings.TrimSpace(s)
	if length := signedLength(trimmed); length > 0 && length == len(trimmed) {
		n, _ := strconv.ParseFloat(trimmed, 64) // what is out of range is infinite
		return value{text: s, num: n, isBoth: true}
	}
	return value{text: s}
}

func signedLength(s string) int {
	sign := 0
	if s != "" && (s[0] == '-' || s[0] == '+') {
		sign = 1
	}
	if length := numberLength(s[sign:]); length > 0 {
		return sign + length
	}
	return 0
}

// number is what a value counts as: of a string the number that it begins with.
func (v value) number() float64 {
	if v.isNumber || v.isBoth {
		return v.num
	}
	s := strings.TrimLeft(v.text, " \t\n\r\f\v")
	n, _ := strconv.ParseFloat(s[:signedLength(s)], 64) // what is out of range is infinite
	return n
}

// string is a value as text; `format` is for numbers that are not whole.
func (v value) string(format string) string {
	if !v.isNumber {
		return v.text
	}
	switch {
	case v.num == math.Trunc(v.num) && math.Abs(v.num) < 1e16:
		return strconv.FormatInt(int64(v.num), 10)
	case math.IsNaN(v.num):
		return "nan"
	case math.IsInf(v.num, 1):
		return "inf"
	case math.IsInf(v.num, -1):
		return "-inf"
	}
	return sprintf(format, []value{v}, format)
}

func (v value) isTrue() bool {
	if v.isNumber || v.isBoth {
		return v.num != 0
	}
	return v.text != ""
}

// sprintf fills a format; `convert` is the format of numbers that become strings.
func sprintf(format string, args []value, convert string) string {
	var out strings.Builder
	next := func() value {
		if len(args) == 0 {
			return str("")
		}
		first := args[0]
		args = args[1:]
		return first
	}
	for at := 0; at < len(format); at++ {
		if format[at] != '%' {
			out.WriteByte(format[at])
			continue
		}
		begin := at
		spec := []byte{'%'}
		for at++; at < len(format) && strings.IndexByte("-+ #0123456789.*", format[at]) >= 0; at++ {
			if format[at] == '*' {
				spec = strconv.AppendInt(spec, int64(next().number()), 10)
			} else {
				spec = append(spec, format[at])
			}
		}
		for at < len(format) && strings.IndexByte("hlLqjzt", format[at]) >= 0 {
			at++
		}
		if at == len(format) {
			out.WriteString(format[begin:])
			break
		}
		switch verb := format[at]; verb {
		case '%':
			out.WriteByte('%')
		case 'd', 'i':
			out.WriteString(integral(spec, 'd', next().number()))
		case 'o', 'x', 'X', 'u':
			if verb == 'u' {
				verb = 'd'
			}
			out.WriteString(integral(spec, verb, next().number()))
		case 'e', 'E', 'f', 'F', 'g', 'G', 'a', 'A':
			out.WriteString(floating(spec, verb, next().number()))
		case 'c':
			arg := next()
			character := ""
			if arg.isNumber {
				character = string(rune(arg.num))
			} else if arg.text != "" {
				character = string([]rune(arg.text)[:1])
			}
			out.WriteString(padded(spec, character))
		case 's':
			out.WriteString(padded(spec, next().string(convert)))
		default:
			out.WriteString(format[begin : at+1])
		}
	}
	return out.String()
}
