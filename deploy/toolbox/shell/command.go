package shell

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"vkubelet.local/toolbox/call"
)

// Statuses that POSIX gives a shell for a command that it does not run.
const (
	cannotRun = 126
	notFound  = 127
)

// standardDirectories are where scripts expect the everyday commands.
var standardDirectories = []string{"/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin"}

// headSize is what is read of a file to tell what it is: a `#!` line is no longer on Linux.
const headSize = 256

// execute runs a command found as a shell finds it: an applet, or a script in the container's files.
func (b *Box) execute(c *call.Call, args []string) int {
	c.Flush()
	name := args[0]
	if applet := b.named(name); applet != nil {
		return b.Run(c, applet, args, c.Dir, c.Env, c.Files())
	}
	file := find(c, name)
	if file == "" {
		c.Note("sh: %s: not found", name)
		return notFound
	}
	return b.runFile(c, file, args)
}

// named is the applet that a command's name means: bare, or in a standard directory where no file has it.
func (b *Box) named(name string) *call.Applet {
	directory, base := path.Split(name)
	if directory == "" {
		return b.applets[base]
	}
	if !slices.Contains(standardDirectories, path.Clean(directory)) {
		return nil
	}
	if _, err := os.Stat(name); err == nil {
		return nil
	}
	return b.applets[base]
}

// find is the path of the file that a command's name means, "" if there is none.
func find(c *call.Call, name string) string {
	if strings.Contains(name, "/") {
		if _, err := os.Stat(c.Path(name)); err != nil {
			return ""
		}
		return c.Path(name)
	}
	search, _ := c.Getenv("PATH")
	for directory := range strings.SplitSeq(search, ":") {
		candidate := c.Path(path.Join(directory, name))
		if info, err := os.Stat(candidate); err == nil && info.Mode().IsRegular() {
			return candidate
		}
	}
	return ""
}

func (b *Box) runFile(c *call.Call, file string, args []string) int {
	head, err := readHead(file)
	if err != nil {
		c.Note("sh: %s: %s", args[0], call.Reason(err))
		return cannotRun
	}
	if bytes.HasPrefix(head, []byte("\x00asm")) {
		c.Note("sh: %s: a WebAssembly module cannot be started from inside an instance: run it with kubectl exec", args[0])
		return cannotRun
	}
	line, _, _ := bytes.Cut(head, []byte("\n"))
	if bytes.IndexByte(line, 0) >= 0 {
		c.Note("sh: %s: Exec format error", args[0])
		return cannotRun
	}
	interpreter := []string{Name}
	if rest, ok := bytes.CutPrefix(line, []byte("#!")); ok {
		if words := strings.Fields(string(rest)); len(words) > 0 {
			interpreter = words
		}
	}
	applet := b.named(interpreter[0])
	if base := path.Base(interpreter[0]); applet == nil && (base == "bash" || base == "ash" || base == "dash") {
		applet = b.applets[Name]
	}
	if applet == nil {
		c.Note("sh: %s: bad interpreter: %s: not found", args[0], interpreter[0])
		return cannotRun
	}
	words := slices.Concat(interpreter, []string{file}, args[1:])
	return b.Run(c, applet, words, c.Dir, c.Env, c.Files())
}

func readHead(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "exec", Path: name, Err: fs.ErrPermission}
	}
	head := make([]byte, headSize)
	n, err := io.ReadFull(file, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	return head[:n], nil
}
