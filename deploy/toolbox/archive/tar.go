// Package archive is tar: what `kubectl cp` runs in a pod, as GNU tar and busybox take it.
//
// It exists because WASI has neither owners nor permissions and makes absolute links impossible, which other
// tars do not expect. It streams: memory does not grow with what is packed.
package archive

import (
	"io"
	"os"
	"path"
	"strings"

	"vkubelet.local/toolbox/call"
)

// Applets are those of this package.
var Applets = []*call.Applet{{
	Name:  "tar",
	Usage: "c|x|t[zjvmkhO] [-f ARCHIVE] [-C DIR] [-T FILE] [-X FILE] [--exclude PATTERN] [FILE...]",
	Run:   tar,
}}

// fatal is GNU tar's status for errors.
const fatal = 2

// Options without a letter.
const (
	exclude         = '\x01'
	stripComponents = '\x02'
	keepOwner       = '\x03' // accepted: WASI has no owners to keep or not
)

type job struct {
	*call.Call
	options   *call.Options
	patterns  patterns
	directory string // that of all -C
	block     []byte
}

func tar(c *call.Call) int {
	if len(c.Args) > 0 && c.Args[0] != "" && !strings.HasPrefix(c.Args[0], "-") {
		c.Args = unbundle(c.Args)
	}
	j := &job{Call: c, block: call.Block()}
	j.options = c.Options("cxtzjvpmkhoOf:C:T:X:\x01:\x02:\x03", call.Long{
		"create": 'c', "extract": 'x', "get": 'x', "list": 't', "gzip": 'z', "gunzip": 'z', "bzip2": 'j',
		"verbose": 'v', "file": 'f', "directory": 'C', "files-from": 'T', "exclude-from": 'X', "to-stdout": 'O',
		"dereference": 'h', "touch": 'm', "keep-old-files": 'k', "exclude": exclude,
		"strip-components": stripComponents, "no-same-owner": 'o', "no-same-permissions": keepOwner,
		"same-permissions": 'p', "preserve-permissions": 'p', "numeric-owner": keepOwner,
	}, fatal)
	j.directory = j.directoryOf(len(c.Args))
	j.patterns = j.exclusions()
	mode := j.options.Last("cxt")
	for _, letter := range "cxt" {
		if letter != mode && j.options.Has(letter) {
			c.Misused(fatal, "only one of -c, -x and -t makes sense")
		}
	}
	switch mode {
	case 'c':
		j.create()
	case 'x':
		j.read((&extractor{job: j}).all)
	case 't':
		j.read(j.list)
	default:
		c.Misused(fatal, "one of -c, -x and -t is needed")
	}
	if c.Failed() {
		c.Error("exiting with failure status due to previous errors")
	}
	c.FailStatus(fatal)
	return 0
}

// unbundle turns the old form, `tar cfC ARCHIVE DIR`, where values follow the letters in their order, into options.
func unbundle(args []string) []string {
	var options []string
	rest := args[1:]
	for _, letter := range args[0] {
		options = append(options, "-"+string(letter))
		if strings.ContainsRune("fCTX", letter) && len(rest) > 0 {
			options = append(options, rest[0])
			rest = rest[1:]
		}
	}
	return append(options, rest...)
}

// directoryOf is where the operand of that index is looked for: -C counts for what follows it.
func (j *job) directoryOf(operand int) string {
	directory := j.Dir
	for _, next := range j.options.Before('C', operand) {
		if !path.IsAbs(next) {
			next = path.Join(directory, next)
		}
		directory = next
	}
	return directory
}

// archiveFile opens what -f names; "-" and no -f are the standard files.
func (j *job) archiveFile(flag int) io.ReadWriteCloser {
	name := j.options.Value('f', "-")
	if name == "-" {
		return standard{j.Stdin, j.Out}
	}
	file, err := call.OpenFile(j.Path(name), flag, 0o644, j.Files())
	if err != nil {
		j.Die(fatal, "%s: Cannot open: %s", name, call.Reason(err))
	}
	return file
}

type standard struct {
	io.Reader
	io.Writer
}

func (standard) Close() error { return nil }

// patterns are what is left out.
type patterns []string

func (j *job) exclusions() patterns {
	found := patterns(j.options.Values(exclude))
	for _, name := range j.options.Values('X') {
		found = append(found, j.linesOf(name)...)
	}
	return found
}

// linesOf are the names that a file lists, one a line.
func (j *job) linesOf(name string) []string {
	file, err := call.OpenFile(j.Path(name), os.O_RDONLY, 0, j.Files())
	if name == "-" {
		file, err = standard{j.Stdin, j.Out}, nil
	}
	if err != nil {
		j.Die(fatal, "%s: Cannot open: %s", name, call.Reason(err))
	}
	defer file.Close()
	text, err := io.ReadAll(file)
	if err != nil {
		j.Die(fatal, "%s: Cannot read: %s", name, call.Reason(err))
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSuffix(line, "\n"); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// match tells whether a member is left out: a pattern may match from any `/` on, and what it matches goes whole.
func (p patterns) match(member string) bool {
	member = strings.TrimSuffix(member, "/")
	for _, pattern := range p {
		pattern = strings.TrimSuffix(pattern, "/")
		for end := 0; end <= len(member); end++ {
			if end != len(member) && member[end] != '/' {
				continue
			}
			for tail := member[:end]; ; {
				if matched, err := path.Match(pattern, tail); err == nil && matched {
					return true
				}
				_, rest, more := strings.Cut(tail, "/")
				if !more {
					break
				}
				tail = rest
			}
		}
	}
	return false
}
