package shell

import (
	"errors"
	"path"
	"strings"

	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"

	"vkubelet.local/toolbox/call"
)

// errInterrupted is Ctrl-C at a prompt.
var errInterrupted = errors.New("interrupted")

// interactive talks to a person at a terminal. While a line is edited the terminal is raw, while a command runs
// it is not, so that Ctrl-C then ends the instance: nothing else could end a command in it.
func (b *Box) interactive(c *call.Call, runner *interp.Runner) int {
	if err := interp.Interactive(true)(runner); err != nil {
		c.Die(1, "%v", err)
	}
	editor := &editor{call: c, history: &history{}, complete: b.completer(runner)}
	last := 0
	for {
		status, done := b.dialogue(c, runner, editor, last)
		if done {
			return status
		}
		last = status
	}
}

// dialogue reads and runs commands until the end, or until one has to begin anew: a line that cannot be read, or
// Ctrl-C.
func (b *Box) dialogue(c *call.Call, runner *interp.Runner, editor *editor, last int) (status int, done bool) {
	parser := syntax.NewParser()
	source := &prompted{editor: editor, prompt: func() string {
		if parser.Incomplete() {
			return variable(runner, "PS2", "> ")
		}
		return prompt(runner)
	}}
	for statements, err := range parser.InteractiveSeq(source) {
		switch {
		case errors.Is(source.failure, errInterrupted):
			return 130, false
		case err != nil:
			c.Note("sh: %v", err)
			return badSyntax, source.failure != nil
		case parser.Incomplete():
			continue
		}
		for _, statement := range statements {
			last = exitCode(c, runner.Run(c, statement))
			if runner.Exited() {
				return last, true
			}
		}
	}
	if errors.Is(source.failure, errInterrupted) {
		return 130, false
	}
	return leave(c, runner, last), true
}

// prompt is $PS1, or else the directory and the `#` of someone who may do everything.
func prompt(runner *interp.Runner) string {
	text := variable(runner, "PS1", `\w # `)
	directory := runner.Dir
	return strings.NewReplacer(`\w`, directory, `\W`, path.Base(directory), `\$`, "#", `\u`, "root", `\h`,
		variable(runner, "HOSTNAME", "localhost"), `\n`, "\n", `\e`, "\x1b", `\[`, "", `\]`, "").Replace(text)
}

func variable(runner *interp.Runner, name, fallback string) string {
	if found, ok := runner.Vars[name]; ok && found.IsSet() {
		return found.String()
	}
	if found := runner.Env.Get(name); found.IsSet() {
		return found.String()
	}
	return fallback
}

// prompted is what a person types, line by line, as the parser asks for it.
type prompted struct {
	editor  *editor
	prompt  func() string
	rest    string
	failure error
}

func (p *prompted) Read(data []byte) (int, error) {
	if p.failure != nil {
		return 0, p.failure
	}
	if p.rest == "" {
		line, err := p.editor.line(p.prompt())
		if err != nil {
			p.failure = err
			return 0, err
		}
		p.rest = line + "\n"
	}
	n := copy(data, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}
