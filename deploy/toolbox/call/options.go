package call

import (
	"strconv"
	"strings"
)

// Options are the options of a call, by letter.
type Options struct {
	values map[rune][]string
	given  []given

	operands int // while the arguments are read: how many operands there were
}

// given is one option as it was given, with the number of operands before it.
type given struct {
	letter   rune
	value    string
	operands int
}

// Long maps long names to the letters that mean the same. A letter need not be one that can be typed.
type Long map[string]rune

// Options takes the options off the arguments, getopt-style: spec lists the letters, a colon after one says
// that it takes a value. Options may follow operands, unless spec begins with `+`. An unknown option ends the
// applet with the status `usage`.
func (c *Call) Options(spec string, long Long, usage int) *Options {
	options := &Options{values: map[rune][]string{}}
	inOrder := strings.HasPrefix(spec, "+")
	spec = strings.TrimPrefix(spec, "+")
	var operands []string
	args := c.Args
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		options.operands = len(operands)
		switch {
		case arg == "--":
			operands = append(operands, args...)
			args = nil
		case strings.HasPrefix(arg, "--"):
			args = c.longOption(options, spec, long, arg[2:], args, usage)
		case len(arg) > 1 && arg[0] == '-':
			args = c.shortOptions(options, spec, arg[1:], args, usage)
		default:
			operands = append(operands, arg)
			if inOrder {
				operands = append(operands, args...)
				args = nil
			}
		}
	}
	c.Args = operands
	return options
}

func (c *Call) longOption(options *Options, spec string, long Long, text string, rest []string, usage int) []string {
	name, value, hasValue := strings.Cut(text, "=")
	if name == "help" {
		c.Print("Usage: %s %s\n", c.Name, c.Applet.Usage)
		c.End(0)
	}
	letter, known := long[name]
	if !known {
		c.Misused(usage, "unrecognized option: --%s", name)
	}
	if takesValue(spec, letter) {
		if !hasValue {
			if len(rest) == 0 {
				c.Misused(usage, "option requires an argument: --%s", name)
			}
			value, rest = rest[0], rest[1:]
		}
	} else if hasValue {
		c.Misused(usage, "option takes no argument: --%s", name)
	}
	options.add(letter, value)
	return rest
}

func (c *Call) shortOptions(options *Options, spec, cluster string, rest []string, usage int) []string {
	for at, letter := range cluster {
		if !strings.ContainsRune(spec, letter) || letter == ':' {
			c.Misused(usage, "unrecognized option: %c", letter)
		}
		if !takesValue(spec, letter) {
			options.add(letter, "")
			continue
		}
		value := cluster[at+len(string(letter)):]
		if value == "" {
			if len(rest) == 0 {
				c.Misused(usage, "option requires an argument: %c", letter)
			}
			value, rest = rest[0], rest[1:]
		}
		options.add(letter, value)
		return rest
	}
	return rest
}

func takesValue(spec string, letter rune) bool {
	return strings.Contains(spec, string(letter)+":")
}

func (o *Options) add(letter rune, value string) {
	o.values[letter] = append(o.values[letter], value)
	o.given = append(o.given, given{letter, value, o.operands})
}

// Has tells whether an option was given.
func (o *Options) Has(letter rune) bool { return len(o.values[letter]) > 0 }

// Last is the one of these options that was given last, or 0.
func (o *Options) Last(letters string) rune {
	for i := len(o.given) - 1; i >= 0; i-- {
		if strings.ContainsRune(letters, o.given[i].letter) {
			return o.given[i].letter
		}
	}
	return 0
}

// Before are the values that an option was given before the operand of that index.
func (o *Options) Before(letter rune, operand int) []string {
	var values []string
	for _, option := range o.given {
		if option.letter == letter && option.operands <= operand {
			values = append(values, option.value)
		}
	}
	return values
}

// Value is what an option was given last, else the fallback.
func (o *Options) Value(letter rune, fallback string) string {
	if given := o.values[letter]; len(given) > 0 {
		return given[len(given)-1]
	}
	return fallback
}

// Values are all that an option was given.
func (o *Options) Values(letter rune) []string { return o.values[letter] }

// Number is what an option was given last, a number of at least `least`, else the fallback.
func (c *Call) Number(options *Options, letter rune, fallback, least int) int {
	if !options.Has(letter) {
		return fallback
	}
	text := options.Value(letter, "")
	number, err := strconv.Atoi(text)
	if err != nil || number < least {
		c.Die(1, "invalid number '%s'", text)
	}
	return number
}

// Misused reports a call that makes no sense, with the usage, and ends the applet.
func (c *Call) Misused(status int, format string, values ...any) {
	c.Error(format, values...)
	c.Note("Usage: %s %s", c.Name, c.Applet.Usage)
	c.End(status)
}

// Operands ends the applet unless there are at least `least` and at most `most` operands (-1: any number).
func (c *Call) Operands(least, most int) {
	switch {
	case len(c.Args) < least:
		c.Misused(1, "missing operand")
	case most >= 0 && len(c.Args) > most:
		c.Misused(1, "extra operand '%s'", c.Args[most])
	}
}
