package awk

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// integral, floating and padded are one conversion each, `spec` being its flags, width and precision after a `%`.

func integral(spec []byte, verb byte, n float64) string {
	if math.IsNaN(n) || math.IsInf(n, 0) {
		return padded(spec, value{num: n, isNumber: true}.string("%g"))
	}
	text := string(spec)
	// A precision makes a zero flag meaningless, to C; and a sign is none of an unsigned number's.
	if strings.Contains(text, ".") {
		text = strings.Replace(text, "0", "", leadingZero(text))
	}
	return fmt.Sprintf(text+string(verb), int64(n))
}

// leadingZero is 1 if a zero flag is among the flags, else 0.
func leadingZero(spec string) int {
	flags := strings.TrimLeft(spec[1:], "-+ #")
	if strings.HasPrefix(flags, "0") {
		return 1
	}
	return 0
}

func floating(spec []byte, verb byte, n float64) string {
	if math.IsNaN(n) || math.IsInf(n, 0) {
		return padded(spec, value{num: n, isNumber: true}.string("%g"))
	}
	text := string(spec)
	switch verb {
	case 'a', 'A':
		verb += 'x' - 'a'
	case 'g', 'G':
		// Without a precision Go's are the fewest digits that are exact.
		if !strings.Contains(text, ".") {
			text += ".6"
		}
	}
	out := fmt.Sprintf(text+string(verb), n)
	return out
}

func padded(spec []byte, text string) string {
	format := strings.Replace(string(spec), "0", "", leadingZero(string(spec)))
	width, precision := 0, -1
	left := strings.Contains(format, "-")
	numbers := strings.TrimLeft(format[1:], "-+ #")
	before, after, has := strings.Cut(numbers, ".")
	fmt.Sscan(before, &width) //nolint:errcheck // no width is none
	if has {
		precision = 0
		fmt.Sscan(after, &precision) //nolint:errcheck // as above
	}
	if precision >= 0 && utf8.RuneCountInString(text) > precision {
		text = string([]rune(text)[:precision])
	}
	fill := strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
	if left {
		return text + fill
	}
	return fill + text
}
