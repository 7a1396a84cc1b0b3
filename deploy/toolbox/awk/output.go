package awk

import (
	"bufio"
	"errors"
	"fmt"
	"strings"
)

func (in *interpreter) output(s *output) {
	var text string
	switch {
	case s.formatted:
		args := make([]value, 0, len(s.args))
		for _, arg := range s.args {
			args = append(args, in.eval(arg))
		}
		if len(args) == 0 {
			panic(fault("printf needs a format"))
		}
		text = sprintf(args[0].string(in.text("CONVFMT")), args[1:], in.text("OFMT"))
	case len(s.args) == 0:
		text = in.record + in.text("ORS")
	default:
		words := make([]string, 0, len(s.args))
		for _, arg := range s.args {
			words = append(words, in.eval(arg).string(in.text("OFMT")))
		}
		text = strings.Join(words, in.text("OFS")) + in.text("ORS")
	}
	if s.to == nil {
		in.write(in.Stdout, text)
		return
	}
	in.write(in.destination(s.operator, in.string(s.to)), text)
}

func (in *interpreter) write(to *bufio.Writer, text string) {
	if _, err := to.WriteString(text); err != nil {
		panic(fault(err.Error()))
	}
}

// destination is an open file of a redirection; a second one adds to what the first made.
func (in *interpreter) destination(operator, name string) *bufio.Writer {
	if operator == "|" {
		panic(fault("output cannot go to a command here: write it to a file, or pipe awk's own"))
	}
	if open, there := in.outputs[name]; there {
		return open.Writer
	}
	file, err := in.Create(name, operator == ">>")
	if err != nil {
		panic(fault(fmt.Sprintf("can't write to %s: %v", name, cause(err))))
	}
	open := writer{bufio.NewWriter(file), file}
	in.outputs[name] = open
	return open.Writer
}

func (in *interpreter) closeAll() {
	for name := range in.outputs {
		in.close(name)
	}
	for name := range in.inputs {
		in.close(name)
	}
	in.closeInput()
}

// close is the function of that name: what it returns is 0, or -1 if nothing of the name is open.
func (in *interpreter) close(name string) float64 {
	result := -1.0
	if open, there := in.outputs[name]; there {
		delete(in.outputs, name)
		result = 0
		if err := errors.Join(open.Flush(), open.closer.Close()); err != nil {
			result = -1
		}
	}
	if open, there := in.inputs[name]; there {
		delete(in.inputs, name)
		result = 0
		if open.closer != nil && open.closer.Close() != nil {
			result = -1
		}
	}
	return result
}

func cause(err error) error {
	for unwrapped := errors.Unwrap(err); unwrapped != nil; unwrapped = errors.Unwrap(err) {
		err = unwrapped
	}
	return err
}
