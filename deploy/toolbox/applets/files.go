package applets

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"vkubelet.local/toolbox/call"
)

func mkdir(c *call.Call) int {
	options := c.Options("pv", call.Long{"parents": 'p', "verbose": 'v'}, 1)
	c.Operands(1, -1)
	for _, name := range c.Args {
		var err error
		if options.Has('p') {
			err = os.MkdirAll(c.Path(name), 0o755)
		} else {
			err = os.Mkdir(strings.TrimRight(c.Path(name), "/"), 0o755)
		}
		switch {
		case err != nil:
			c.Error("can't create directory '%s': %s", name, call.Reason(err))
		case options.Has('v'):
			c.Print("created directory: '%s'\n", name)
		}
	}
	return 0
}

func rmdir(c *call.Call) int {
	options := c.Options("p", call.Long{"parents": 'p'}, 1)
	c.Operands(1, -1)
	for _, name := range c.Args {
		for {
			err := removeDirectory(c.Path(name))
			if err != nil {
				c.Error("'%s': %s", name, call.Reason(err))
				break
			}
			name = path.Dir(strings.TrimRight(name, "/"))
			if !options.Has('p') || name == "." || name == "/" {
				break
			}
		}
	}
	return 0
}

// removeDirectory removes an empty directory and nothing else.
func removeDirectory(name string) error {
	info, err := os.Lstat(name)
	if err == nil && !info.IsDir() {
		err = errors.New("Not a directory")
	}
	if err == nil {
		err = os.Remove(name)
	}
	return err
}

func rm(c *call.Call) int {
	options := c.Options("dfrRiv", call.Long{"force": 'f', "recursive": 'r', "dir": 'd', "verbose": 'v'}, 1)
	force := options.Last("fi") == 'f'
	if options.Last("fi") == 'i' {
		c.Die(1, "-i is not supported: there is nobody to ask")
	}
	if !force {
		c.Operands(1, -1)
	}
	recursive := options.Has('r') || options.Has('R')
	for _, name := range c.Args {
		if base := lastPart(name); base == "." || base == ".." || base == "/" {
			c.Error("can't remove '%s': it is the current directory, the one above, or the root", name)
			continue
		}
		where := strings.TrimRight(c.Path(name), "/")
		info, err := os.Lstat(where)
		switch {
		case errors.Is(err, fs.ErrNotExist) && force:
			continue
		case err != nil:
		case info.IsDir() && recursive:
			err = os.RemoveAll(where)
		case info.IsDir() && !options.Has('d'):
			err = errors.New("Is a directory")
		default:
			err = os.Remove(where)
		}
		switch {
		case err != nil:
			c.Error("can't remove '%s': %s", name, call.Reason(err))
		case options.Has('v'):
			c.Print("removed '%s'\n", name)
		}
	}
	return 0
}

// times is what WASI is told when only one of a file's times is to change.
type times struct{ accessed, modified time.Time }

func touch(c *call.Call) int {
	options := c.Options("acmd:r:t:", call.Long{"no-create": 'c', "date": 'd', "reference": 'r'}, 1)
	c.Operands(1, -1)
	now := time.Now()
	wanted := times{now, now}
	switch options.Last("drt") {
	case 'd':
		at, err := parseTime(options.Value('d', ""), now)
		if err != nil {
			c.Die(1, "invalid date '%s'", options.Value('d', ""))
		}
		wanted = times{at, at}
	case 't':
		at, err := parseStamp(options.Value('t', ""), now)
		if err != nil {
			c.Die(1, "invalid date '%s'", options.Value('t', ""))
		}
		wanted = times{at, at}
	case 'r':
		info, err := os.Stat(c.Path(options.Value('r', "")))
		if err != nil {
			c.Fail(options.Value('r', ""), err)
			return 1
		}
		wanted = times{accessed(info), info.ModTime()}
	}
	for _, name := range c.Args {
		info, err := os.Stat(c.Path(name))
		if errors.Is(err, fs.ErrNotExist) {
			if options.Has('c') {
				continue
			}
			var file *os.File
			if file, err = os.OpenFile(c.Path(name), os.O_WRONLY|os.O_CREATE, 0o644); err == nil {
				info, err = file.Stat()
				err = errors.Join(err, file.Close())
			}
		}
		if err == nil {
			set := wanted
			if options.Has('a') && !options.Has('m') {
				set.modified = info.ModTime()
			}
			if options.Has('m') && !options.Has('a') {
				set.accessed = accessed(info)
			}
			err = os.Chtimes(c.Path(name), set.accessed, set.modified)
		}
		if err != nil {
			c.Fail(name, err)
		}
	}
	return 0
}

func ln(c *call.Call) int {
	options := c.Options("fsnTv", call.Long{"force": 'f', "symbolic": 's', "no-dereference": 'n'}, 1)
	c.Operands(1, -1)
	targets, last := c.Args, "."
	if len(c.Args) > 1 {
		targets, last = c.Args[:len(c.Args)-1], c.Args[len(c.Args)-1]
	}
	info, err := os.Stat(c.Path(last))
	if options.Has('n') || options.Has('T') {
		info, err = os.Lstat(c.Path(last))
	}
	into := err == nil && info.IsDir() && !options.Has('T')
	if len(targets) > 1 && !into {
		c.Die(1, "%s: Not a directory", last)
	}
	for _, target := range targets {
		link := last
		if into {
			link = path.Join(last, lastPart(target))
		}
		if options.Has('f') {
			if err := os.Remove(c.Path(link)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				c.Error("%s: %s", link, call.Reason(err))
				continue
			}
		}
		if options.Has('s') {
			err = os.Symlink(target, c.Path(link))
			if err != nil && path.IsAbs(target) {
				err = errors.New("WASI makes no link to an absolute path")
			}
		} else {
			err = os.Link(c.Path(target), c.Path(link))
		}
		switch {
		case err != nil:
			c.Error("%s: %s", link, call.Reason(err))
		case options.Has('v'):
			c.Print("'%s' -> '%s'\n", link, target)
		}
	}
	return 0
}

func readlink(c *call.Call) int {
	options := c.Options("fn", call.Long{"canonicalize": 'f', "no-newline": 'n'}, 1)
	c.Operands(1, -1)
	end := "\n"
	if options.Has('n') {
		end = ""
	}
	for _, name := range c.Args {
		var found string
		var err error
		if options.Has('f') {
			found, err = canonical(c.Path(name))
		} else {
			found, err = os.Readlink(c.Path(name))
		}
		if err != nil {
			c.FailQuietly()
			continue
		}
		c.Print("%s%s", found, end)
	}
	return 0
}

func realpath(c *call.Call) int {
	c.Options("", nil, 1)
	for _, name := range inputsOr(c.Args, ".") {
		found, err := filepath.EvalSymlinks(c.Path(name))
		if err != nil {
			c.Fail(name, err)
			continue
		}
		c.Print("%s\n", found)
	}
	return 0
}

// canonical resolves all links; the last part need not exist.
func canonical(name string) (string, error) {
	found, err := filepath.EvalSymlinks(name)
	if errors.Is(err, fs.ErrNotExist) {
		var parent string
		if parent, err = filepath.EvalSymlinks(path.Dir(path.Clean(name))); err == nil {
			return path.Join(parent, path.Base(path.Clean(name))), nil
		}
	}
	return found, err
}

func inputsOr(names []string, fallback string) []string {
	if len(names) == 0 {
		return []string{fallback}
	}
	return names
}

func mktemp(c *call.Call) int {
	options := c.Options("dp:t", call.Long{"directory": 'd', "tmpdir": 'p'}, 1)
	c.Operands(0, 1)
	directory, _ := c.Getenv("TMPDIR")
	if directory == "" {
		directory = "/tmp"
	}
	directory = options.Value('p', directory)
	template := "tmp.XXXXXXXXXX"
	if len(c.Args) == 1 {
		template = c.Args[0]
		if !options.Has('p') && !options.Has('t') {
			directory = path.Dir(template)
			template = path.Base(template)
		}
	}
	prefix := strings.TrimRight(template, "X")
	if len(template)-len(prefix) < 3 {
		c.Die(1, "too few X's in template '%s'", template)
	}
	var name string
	var err error
	if options.Has('d') {
		name, err = os.MkdirTemp(c.Path(directory), prefix+"*")
	} else {
		var file *os.File
		if file, err = os.CreateTemp(c.Path(directory), prefix+"*"); err == nil {
			name = file.Name()
			err = file.Close()
		}
	}
	if err != nil {
		c.Error("%s: %s", directory, call.Reason(err))
		return 1
	}
	if len(c.Args) == 1 && !path.IsAbs(directory) {
		name = path.Join(directory, path.Base(name))
	}
	c.Print("%s\n", name)
	return 0
}
