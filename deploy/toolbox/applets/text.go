package applets

import (
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"vkubelet.local/toolbox/call"
)

func tee(c *call.Call) int {
	options := c.Options("a", call.Long{"append": 'a'}, 1)
	flags := os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	if options.Has('a') {
		flags = os.O_WRONLY | os.O_CREATE | os.O_APPEND
	}
	type output struct {
		name string
		file io.WriteCloser
	}
	var outputs []output
	for _, name := range c.Args {
		file, err := call.OpenFile(c.Path(name), flags, 0o644, c.Files())
		if err != nil {
			c.Fail(name, err)
			continue
		}
		defer file.Close()
		outputs = append(outputs, output{name, file})
	}
	block := call.Block()
	for {
		n, err := c.Stdin.Read(block)
		kept := outputs[:0]
		for _, out := range outputs {
			if _, failure := out.file.Write(block[:n]); failure != nil {
				c.Fail(out.name, failure)
				continue
			}
			kept = append(kept, out)
		}
		outputs = kept
		c.Out.Write(block[:n])
		if err == io.EOF {
			return 0
		}
		if err != nil {
			c.Fail("standard input", err)
			return 1
		}
	}
}

func yes(c *call.Call) int {
	text := "y"
	if len(c.Args) > 0 {
		text = strings.Join(c.Args, " ")
	}
	for {
		c.Out.WriteString(text + "\n") // a reader that has gone ends the call
		if c.Err() != nil {
			return 130
		}
	}
}

func seq(c *call.Call) int {
	// Numbers may be negative: they are no options.
	var numbers []string
	width, separator := false, "\n"
	for args := c.Args; len(args) > 0; args = args[1:] {
		switch {
		case args[0] == "-w":
			width = true
		case args[0] == "-s" && len(args) > 1:
			separator = args[1]
			args = args[1:]
		case strings.HasPrefix(args[0], "-s"):
			separator = args[0][2:]
		default:
			numbers = append(numbers, args[0])
		}
	}
	if len(numbers) == 0 || len(numbers) > 3 {
		c.Misused(1, "one to three numbers are needed")
	}
	first, step := "1", "1"
	switch len(numbers) {
	case 2:
		first = numbers[0]
	case 3:
		first, step = numbers[0], numbers[1]
	}
	last := numbers[len(numbers)-1]
	precision, widest := 0, 0
	values := map[string]float64{}
	for _, text := range []string{first, step, last} {
		value, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(value) {
			c.Die(1, "invalid number '%s'", text)
		}
		values[text] = value
		if _, fraction, ok := strings.Cut(text, "."); ok && text != last {
			precision = max(precision, len(fraction))
		}
	}
	if values[step] == 0 {
		c.Die(1, "the step is zero")
	}
	if width {
		widest = max(len(format(values[first], precision)), len(format(values[last], precision)))
	}
	count := math.Floor((values[last]-values[first])/values[step] + 1e-9)
	for i := 0.0; i <= count; i++ {
		if i > 0 {
			c.Out.WriteString(separator)
		}
		fmt.Fprintf(c.Out, "%0*.*f", widest, precision, values[first]+i*values[step])
	}
	if count >= 0 {
		c.Print("\n")
	}
	return 0
}

func format(value float64, precision int) string {
	return strconv.FormatFloat(value, 'f', precision, 64)
}

func basename(c *call.Call) int {
	options := c.Options("+as:", call.Long{"multiple": 'a', "suffix": 's'}, 1)
	suffix := options.Value('s', "")
	if !options.Has('a') && !options.Has('s') {
		c.Operands(1, 2)
		if len(c.Args) == 2 {
			suffix = c.Args[1]
			c.Args = c.Args[:1]
		}
	}
	c.Operands(1, -1)
	for _, name := range c.Args {
		base := lastPart(name)
		if base != suffix {
			base = strings.TrimSuffix(base, suffix)
		}
		c.Print("%s\n", base)
	}
	return 0
}

// lastPart is POSIX' basename: of nothing but slashes it is one.
func lastPart(name string) string {
	trimmed := strings.TrimRight(name, "/")
	if trimmed == "" {
		return name[:min(1, len(name))]
	}
	return trimmed[strings.LastIndexByte(trimmed, '/')+1:]
}

func dirname(c *call.Call) int {
	c.Options("+", nil, 1)
	c.Operands(1, -1)
	for _, name := range c.Args {
		trimmed := strings.TrimRight(name, "/")
		at := strings.LastIndexByte(trimmed, '/')
		switch {
		case trimmed == "" && name != "":
			c.Print("/\n")
		case at < 0:
			c.Print(".\n")
		default:
			parent := strings.TrimRight(trimmed[:at], "/")
			if parent == "" {
				parent = "/"
			}
			c.Print("%s\n", parent)
		}
	}
	return 0
}

func cmp(c *call.Call) int {
	options := c.Options("s", call.Long{"silent": 's', "quiet": 's'}, 2)
	c.Operands(2, 2)
	var sides [2]lineReader
	for at, name := range c.Args {
		file, err := c.Open(name)
		if err != nil {
			c.Fail(name, err)
			c.End(2)
		}
		defer file.Close()
		sides[at] = newLineReader(file)
	}
	line := int64(1)
	for at := int64(1); ; at++ {
		a, failedA := sides[0].ReadByte()
		b, failedB := sides[1].ReadByte()
		switch {
		case failedA == io.EOF && failedB == io.EOF:
			return 0
		case failedA == io.EOF || failedB == io.EOF:
			shorter := c.Args[0]
			if failedB == io.EOF {
				shorter = c.Args[1]
			}
			if !options.Has('s') {
				c.Note("cmp: EOF on %s", shorter)
			}
			return 1
		case failedA != nil || failedB != nil:
			c.Die(2, "cannot read")
		case a != b:
			if !options.Has('s') {
				c.Print("%s %s differ: byte %d, line %d\n", c.Args[0], c.Args[1], at, line)
			}
			return 1
		}
		if a == '\n' {
			line++
		}
	}
}
