package applets

import (
	"io"
	"os"
	"regexp"
	"strings"

	"vkubelet.local/toolbox/awk"
	"vkubelet.local/toolbox/call"
)

// awkFailed is the status of an awk that cannot go on.
const awkFailed = 2

func awkApplet(c *call.Call) int {
	options := c.Options("+F:v:f:", nil, awkFailed)
	var source strings.Builder
	for _, name := range options.Values('f') {
		file, err := c.Open(name)
		if err == nil {
			_, err = io.Copy(&source, file)
			file.Close()
		}
		if err != nil {
			c.Die(awkFailed, "%s: %s", name, call.Reason(err))
		}
		source.WriteByte('\n')
	}
	operands := c.Args
	if !options.Has('f') {
		c.Operands(1, -1)
		source.WriteString(operands[0])
		operands = operands[1:]
	}
	compile := func(pattern string) (*regexp.Regexp, error) { return compileRegular(pattern, true, false) }
	program, err := awk.Parse(source.String(), compile)
	if err != nil {
		c.Die(awkFailed, "%v", err)
	}
	assign := options.Values('v')
	if options.Has('F') {
		separator := options.Value('F', "")
		if separator == "t" {
			separator = `\t`
		}
		assign = append([]string{"FS=" + separator}, assign...)
	}
	status, err := program.Run(awk.Config{
		Args:    append([]string{"awk"}, operands...),
		Assign:  assign,
		Environ: c.Env,
		Stdout:  c.Out,
		Open:    c.Open,
		Create: func(name string, more bool) (io.WriteCloser, error) {
			flag := os.O_WRONLY | os.O_CREATE | os.O_TRUNC
			if more {
				flag = os.O_WRONLY | os.O_CREATE | os.O_APPEND
			}
			return call.OpenFile(c.Path(name), flag, 0o666, c.Files())
		},
		Run: func(command string, stdout io.Writer) int {
			inner := *c
			if stdout != nil {
				inner = *c.Redirected(stdout)
			}
			return c.Exec(&inner, []string{"sh", "-c", command})
		},
		Compile:  compile,
		Complain: func(text string) { c.Error("%s", text) },
	})
	if err != nil {
		c.Die(awkFailed, "%v", err)
	}
	return status
}
