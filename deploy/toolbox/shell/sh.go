package shell

import (
	"errors"
	"io"
	"os"
	"strings"

	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"

	"vkubelet.local/toolbox/call"
)

// Name is the shell's name.
const Name = "sh"

// badSyntax is the status of a script that cannot be read.
const badSyntax = 2

// own are the applets that are the shell's: itself, and its builtins as commands of their own.
func (b *Box) own() []*call.Applet {
	applets := []*call.Applet{{
		Name:  Name,
		Usage: "[-aefinsux] [-o OPTION] [-c COMMAND [NAME [ARG...]] | SCRIPT [ARG...]]",
		Run:   b.sh,
	}}
	for name, usage := range map[string]string{
		"[":     "EXPRESSION ]",
		"echo":  "[-neE] [ARG...]",
		"false": "",
		"pwd":   "[-LP]",
		"test":  "EXPRESSION",
		"true":  "",
	} {
		applets = append(applets, &call.Applet{Name: name, Usage: usage, Run: b.builtin})
	}
	return applets
}

// invocation is what a shell's arguments ask for.
type invocation struct {
	options    []string // for the interpreter, as `set` takes them
	command    string
	hasCommand bool
	fromStdin  bool
	operands   []string
}

func parseInvocation(c *call.Call) invocation {
	var in invocation
	args := c.Args
	for len(args) > 0 {
		arg := args[0]
		if arg == "--" || arg == "-" {
			args = args[1:]
			break
		}
		if len(arg) < 2 || (arg[0] != '-' && arg[0] != '+') {
			break
		}
		args = args[1:]
		if arg == "--help" {
			c.Print("Usage: %s %s\n", c.Name, c.Applet.Usage)
			c.End(0)
		}
		for _, letter := range arg[1:] {
			switch letter {
			case 'c':
				in.hasCommand = true
			case 'i': // a shell with a terminal is interactive, and none is without
			case 's':
				in.fromStdin = true
			case 'l': // a login shell is one that reads a profile: here there is none
			case 'o':
				if len(args) == 0 {
					c.Die(badSyntax, "-o: option name missing")
				}
				in.options = append(in.options, arg[:1]+"o", args[0])
				args = args[1:]
			default:
				in.options = append(in.options, arg[:1]+string(letter))
			}
		}
	}
	if in.hasCommand {
		if len(args) == 0 {
			c.Die(badSyntax, "-c requires an argument")
		}
		in.command, args = args[0], args[1:]
	}
	in.operands = args
	return in
}

func (b *Box) sh(c *call.Call) int {
	in := parseInvocation(c)
	name, params := Name, in.operands
	if len(params) > 0 && !in.fromStdin {
		name, params = params[0], params[1:]
	}
	runner, err := b.runner(c, in.options, params)
	if err != nil {
		c.Die(badSyntax, "%v", err)
	}
	switch {
	case in.hasCommand:
		return b.script(c, runner, strings.NewReader(in.command), name)
	case !in.fromStdin && len(in.operands) > 0:
		file, err := call.OpenFile(c.Path(name), os.O_RDONLY, 0, c.Files())
		if err != nil {
			c.Error("cannot open %s: %s", name, call.Reason(err))
			return notFound
		}
		defer file.Close()
		return b.script(c, runner, file, name)
	case c.Terminal != nil:
		return b.interactive(c, runner)
	default:
		return b.lines(c, runner, &oneByOne{source: c.Files().Stdin})
	}
}

// script runs a whole script.
func (b *Box) script(c *call.Call, runner *interp.Runner, source io.Reader, name string) int {
	program, err := syntax.NewParser().Parse(source, name)
	if err != nil {
		c.Error("%v", err)
		return badSyntax
	}
	return exitCode(c, runner.Run(c, program))
}

// lines runs a script line by line, as it comes: commands in it may read what follows them.
func (b *Box) lines(c *call.Call, runner *interp.Runner, source io.Reader) int {
	last := 0
	parser := syntax.NewParser()
	for statements, err := range parser.InteractiveSeq(source) {
		if err != nil {
			c.Error("%v", err)
			return badSyntax
		}
		if parser.Incomplete() {
			continue
		}
		for _, statement := range statements {
			last = exitCode(c, runner.Run(c, statement))
			if runner.Exited() {
				return last
			}
		}
	}
	return leave(c, runner, last)
}

// leave runs the shell's exit trap.
func leave(c *call.Call, runner *interp.Runner, last int) int {
	if code := exitCode(c, runner.Run(c, &syntax.File{Name: Name})); code != 0 {
		return code
	}
	return last
}

func exitCode(c *call.Call, err error) int {
	if err == nil {
		return 0
	}
	if code, ok := errors.AsType[interp.ExitStatus](err); ok {
		return int(code)
	}
	c.Error("%v", err)
	return 1
}

// oneByOne never reads more of a stream than is needed, for a stream that is shared with commands. What it gives
// ends with a line's end: the parser would wait for one.
type oneByOne struct {
	source io.Reader
	last   byte
}

func (o *oneByOne) Read(data []byte) (int, error) {
	if o.source == nil {
		return 0, io.EOF
	}
	n, err := o.source.Read(data[:min(1, len(data))])
	if n > 0 {
		o.last = data[0]
	} else if err == io.EOF && o.last != '\n' && len(data) > 0 {
		o.last, data[0] = '\n', '\n'
		return 1, nil
	}
	return n, err
}

// builtin runs a builtin of the interpreter as an applet. Some need no interpreter.
func (b *Box) builtin(c *call.Call) int {
	switch c.Name {
	case "true":
		return 0
	case "false":
		return 1
	}
	runner, err := b.runner(c, nil, nil)
	if err != nil {
		c.Die(1, "%v", err)
	}
	words := []*syntax.Word{}
	for _, arg := range append([]string{c.Name}, c.Args...) {
		words = append(words, &syntax.Word{Parts: []syntax.WordPart{&syntax.SglQuoted{Value: arg}}})
	}
	return exitCode(c, runner.Run(c, &syntax.CallExpr{Args: words}))
}
