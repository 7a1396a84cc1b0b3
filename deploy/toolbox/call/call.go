// Package call is what an applet gets when it is called: its arguments, its working directory and its files.
//
// It exists because the shell runs applets in its own instance: WASI has neither processes nor a working
// directory, so that nothing here may read os.Args, os.Stdin or the current directory by itself. It must not
// know any applet.
package call

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"syscall"
	"time"
)

// BrokenPipe is the status of an applet whose output nobody reads any more, as if SIGPIPE had ended it.
const BrokenPipe = 141

// blockSize is how much is read and written at once: a call out of the instance costs more than its bytes.
const blockSize = 1 << 20

// Applet is one command. Run's result is the exit status.
type Applet struct {
	Name  string
	Usage string
	Run   func(*Call) int
}

// Runner runs a command by its name, as a shell would: xargs, env and find call others with it.
type Runner func(c *Call, args []string) int

// Call is one run of an applet. It serves one goroutine.
type Call struct {
	context.Context
	Applet *Applet
	Name   string
	Called string // the name that it was called by, which may be a path
	Args   []string
	Dir    string
	Env    []string

	// Stdin flushes Out before it waits, so that what was said is seen before an answer is awaited.
	Stdin io.Reader
	// Out is the buffered standard output. A write that fails ends the applet: see Main.
	Out *bufio.Writer
	// Terminal is the user's terminal when the applet's output goes there, else nil.
	Terminal *Terminal

	// Exec runs another command, Known tells whether a name is an applet's.
	Exec  Runner
	Known func(name string) bool

	stdout io.Writer
	stderr io.Writer
	failed int
}

// Terminal is what can be asked of the user's terminal.
type Terminal struct {
	SetRaw func(raw bool) error
	Size   func() (rows, columns int, err error)
}

// Files are the standard files of a call.
type Files struct {
	Stdin    io.Reader
	Stdout   io.Writer
	Stderr   io.Writer
	Terminal *Terminal
}

// New prepares a call of an applet; args[0] is the name it is called by.
func New(ctx context.Context, applet *Applet, args []string, dir string, env []string, files Files) *Call {
	c := &Call{
		Context:  ctx,
		Applet:   applet,
		Name:     applet.Name,
		Called:   args[0],
		Args:     args[1:],
		Dir:      dir,
		Env:      env,
		Terminal: files.Terminal,
		stdout:   files.Stdout,
		stderr:   files.Stderr,
	}
	c.Out = newWriter(outputOf{c})
	c.Stdin = inputOf{c, files.Stdin}
	return c
}

// ended is how a call ends from within: a status.
type ended int

// outputSize is how much of an applet's output is held back.
const outputSize = 64 << 10

// prepared is the first call's buffer. It is made before there is any call, so that of its pages none is touched but
// those that are written to.
var prepared = bufio.NewWriterSize(nil, outputSize)

func newWriter(to io.Writer) *bufio.Writer {
	writer := prepared
	if writer == nil {
		return bufio.NewWriterSize(to, outputSize)
	}
	prepared = nil
	writer.Reset(to)
	return writer
}

// Main runs the applet and returns its exit status. What it wrote has been flushed.
//
// An applet that cannot write ends at once, as a process that SIGPIPE ends: no applet looks for that itself.
func (c *Call) Main() (status int) {
	defer func() {
		if reason := recover(); reason != nil {
			code, ok := reason.(ended)
			if !ok {
				panic(reason)
			}
			status = int(code)
		}
	}()
	status = c.Applet.Run(c)
	c.Flush()
	if status == 0 {
		status = c.failed
	}
	return status
}

// End ends the call with a status; what is buffered is written first.
func (c *Call) End(status int) {
	c.Flush()
	panic(ended(status))
}

// Flush writes what is buffered.
func (c *Call) Flush() {
	// outputOf ends the call when it cannot write, so that there is no error to look at.
	_ = c.Out.Flush()
}

// Files are the call's standard files, for a command that it runs. Flush first.
func (c *Call) Files() Files {
	stdin := c.Stdin
	if tied, ok := stdin.(inputOf); ok {
		stdin = tied.Reader
	}
	return Files{Stdin: stdin, Stdout: c.stdout, Stderr: c.stderr, Terminal: c.Terminal}
}

// Redirected is a call like this one whose standard output goes elsewhere.
func (c *Call) Redirected(stdout io.Writer) *Call {
	files := c.Files()
	files.Stdout, files.Terminal = stdout, nil
	other := New(c.Context, c.Applet, append([]string{c.Called}, c.Args...), c.Dir, c.Env, files)
	other.Exec, other.Known = c.Exec, c.Known
	return other
}

type outputOf struct{ call *Call }

func (o outputOf) Write(data []byte) (int, error) {
	n, err := o.call.stdout.Write(data)
	if err == nil {
		return n, nil
	}
	if isBrokenPipe(err) {
		panic(ended(BrokenPipe))
	}
	fmt.Fprintf(o.call.stderr, "%s: write error: %s\n", o.call.Name, Reason(err))
	panic(ended(1))
}

type inputOf struct {
	call *Call
	io.Reader
}

func (i inputOf) Read(data []byte) (int, error) {
	i.call.Flush()
	if i.Reader == nil {
		return 0, io.EOF
	}
	return i.Reader.Read(data)
}

func isBrokenPipe(err error) bool {
	return errors.Is(err, io.ErrClosedPipe) || errors.Is(err, syscall.EPIPE)
}

// Print writes to standard output.
func (c *Call) Print(format string, values ...any) {
	fmt.Fprintf(c.Out, format, values...)
}

// Error reports one thing that went wrong; the applet goes on, and its status will be 1.
func (c *Call) Error(format string, values ...any) {
	c.Flush()
	fmt.Fprintf(c.stderr, "%s: %s\n", c.Name, fmt.Sprintf(format, values...))
	if c.failed == 0 {
		c.failed = 1
	}
}

// Note writes a line to standard error.
func (c *Call) Note(format string, values ...any) {
	c.Flush()
	fmt.Fprintf(c.stderr, format+"\n", values...)
}

// Fail reports what went wrong with a file.
func (c *Call) Fail(name string, err error) {
	c.Error("%s: %s", name, Reason(err))
}

// FailStatus makes the status of an applet that reported an error another than 1.
func (c *Call) FailStatus(status int) {
	if c.failed != 0 {
		c.failed = status
	}
}

// Die reports an error and ends the applet.
func (c *Call) Die(status int, format string, values ...any) {
	c.Error(format, values...)
	c.End(status)
}

// Failed tells whether something went wrong so far.
func (c *Call) Failed() bool { return c.failed != 0 }

// Path is the absolute path of a name that is relative to the call's working directory.
func (c *Call) Path(name string) string {
	if name == "" {
		return "" // no directory has it: the system says so
	}
	if path.IsAbs(name) {
		return name
	}
	joined := path.Join(c.Dir, name)
	if name[len(name)-1] == '/' && joined != "/" {
		joined += "/" // only a directory has it
	}
	return joined
}

// Getenv is the value of an environment variable, and whether it is set.
func (c *Call) Getenv(name string) (string, bool) {
	for i := len(c.Env) - 1; i >= 0; i-- {
		entry := c.Env[i]
		if len(entry) > len(name) && entry[len(name)] == '=' && entry[:len(name)] == name {
			return entry[len(name)+1:], true
		}
	}
	return "", false
}

// Reason is an error's text for people, without the operation and path that wrap it.
func Reason(err error) string {
	if number, ok := errors.AsType[syscall.Errno](err); ok {
		return number.Error()
	}
	if wrapped, ok := errors.AsType[*fs.PathError](err); ok {
		return wrapped.Err.Error()
	}
	return err.Error()
}

// Sleep waits, or ends the call early when its context has ended.
func (c *Call) Sleep(duration time.Duration) {
	c.Flush()
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.Done():
		c.End(130)
	}
}

// FailQuietly makes the status that of a reported error without a report.
func (c *Call) FailQuietly() {
	if c.failed == 0 {
		c.failed = 1
	}
}
