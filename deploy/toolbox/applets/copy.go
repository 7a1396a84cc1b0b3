package applets

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"vkubelet.local/toolbox/call"
)

// copier is cp, and mv where a rename does not do.
type copier struct {
	*call.Call
	recursive   bool
	links       bool // a link is copied as a link
	preserve    bool // times
	keep        bool // what is there is not overwritten
	force       bool
	verbose     bool
	source      string // the absolute path of what is being copied, so that it is not copied into itself
	destination string
}

func cp(c *call.Call) int {
	options := c.Options("adfinpPrRLTv", call.Long{
		"archive": 'a', "recursive": 'r', "force": 'f', "no-clobber": 'n', "verbose": 'v', "no-dereference": 'P',
		"dereference": 'L', "no-target-directory": 'T',
	}, 1)
	if options.Last("fin") == 'i' {
		c.Die(1, "-i is not supported: there is nobody to ask")
	}
	archive := options.Has('a')
	job := &copier{
		Call:      c,
		recursive: archive || options.Has('r') || options.Has('R'),
		preserve:  archive || options.Has('p'),
		keep:      options.Last("fn") == 'n',
		force:     options.Has('f'),
		verbose:   options.Has('v'),
	}
	job.links = options.Last("adPL") != 'L' && (job.recursive || options.Last("adPL") != 0)
	eachTarget(c, options, job.top)
	return 0
}

// eachTarget pairs the operands of cp and mv: sources, and the destination that each gets.
func eachTarget(c *call.Call, options *call.Options, use func(source, destination string)) {
	c.Operands(2, -1)
	sources, last := c.Args[:len(c.Args)-1], c.Args[len(c.Args)-1]
	info, err := os.Stat(c.Path(last))
	into := err == nil && info.IsDir() && !options.Has('T')
	if !into && (len(sources) > 1 || (strings.HasSuffix(last, "/") && !isDirectory(c.Path(sources[0])))) {
		c.Die(1, "target '%s' is not a directory", last)
	}
	for _, source := range sources {
		destination := last
		if into {
			destination = path.Join(last, lastPart(path.Clean(source)))
			if base := lastPart(source); base == "." || base == ".." {
				destination = last
			}
		}
		use(source, destination)
	}
}

func isDirectory(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

func (j *copier) top(source, destination string) {
	j.source, j.destination = path.Clean(j.Path(source)), path.Clean(j.Path(destination))
	j.copy(source, destination)
}

// copy copies one thing, and reports what goes wrong; it tells whether nothing did.
func (j *copier) copy(source, destination string) bool {
	from, to := j.Path(source), j.Path(destination)
	info, err := os.Lstat(from)
	if err == nil && !j.links && info.Mode()&fs.ModeSymlink != 0 {
		info, err = os.Stat(from)
	}
	if err != nil {
		j.Error("can't stat '%s': %s", source, call.Reason(err))
		return false
	}
	there, missing := os.Stat(to)
	if missing == nil {
		switch {
		case sameFile(info, there):
			j.Error("'%s' and '%s' are the same file", source, destination)
			return false
		case there.IsDir() && !info.IsDir():
			j.Error("cannot overwrite directory '%s' with non-directory '%s'", destination, source)
			return false
		case !there.IsDir() && info.IsDir():
			j.Error("cannot overwrite non-directory '%s' with directory '%s'", destination, source)
			return false
		case j.keep && !info.IsDir():
			return true
		}
	}
	ok := true
	switch mode := info.Mode(); {
	case mode.IsDir():
		ok, err = j.directory(source, destination)
	case mode&fs.ModeSymlink != 0:
		err = j.link(from, to)
	case mode.IsRegular():
		err = j.file(from, to)
	default:
		err = errors.New("unknown file type")
	}
	if err != nil {
		j.Error("can't copy '%s' to '%s': %s", source, destination, call.Reason(err))
		return false
	}
	if j.verbose {
		j.Print("'%s' -> '%s'\n", source, destination)
	}
	if j.preserve && info.Mode()&fs.ModeSymlink == 0 {
		if err := os.Chtimes(to, accessed(info), info.ModTime()); err != nil {
			j.Error("can't preserve times of '%s': %s", destination, call.Reason(err))
			return false
		}
	}
	return ok
}

func sameFile(a, b fs.FileInfo) bool {
	x, okX := a.Sys().(*syscall.Stat_t)
	y, okY := b.Sys().(*syscall.Stat_t)
	return okX && okY && x.Dev == y.Dev && x.Ino == y.Ino
}

func (j *copier) directory(source, destination string) (bool, error) {
	if !j.recursive {
		return false, errors.New("omitting directory (-r not specified)")
	}
	if j.destination == j.source || strings.HasPrefix(j.destination, strings.TrimSuffix(j.source, "/")+"/") {
		return false, errors.New("it would be copied into itself")
	}
	if err := os.Mkdir(j.Path(destination), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	entries, err := call.ReadDir(j.Path(source))
	if err != nil {
		return false, err
	}
	ok := true
	for _, entry := range entries {
		ok = j.copy(path.Join(source, entry.Name()), path.Join(destination, entry.Name())) && ok
	}
	return ok, nil
}

func (j *copier) link(from, to string) error {
	target, err := os.Readlink(from)
	if err != nil {
		return err
	}
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(target, to)
}

func (j *copier) file(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil && j.force {
		if err = os.Remove(to); err == nil {
			target, err = os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
		}
	}
	if err != nil {
		return err
	}
	_, err = call.Copy(target, source)
	return errors.Join(err, target.Close())
}

func mv(c *call.Call) int {
	options := c.Options("finTv", call.Long{"force": 'f', "no-clobber": 'n', "verbose": 'v', "no-target-directory": 'T'}, 1)
	if options.Last("fin") == 'i' {
		c.Die(1, "-i is not supported: there is nobody to ask")
	}
	eachTarget(c, options, func(source, destination string) { move(c, options, source, destination) })
	return 0
}

func move(c *call.Call, options *call.Options, source, destination string) {
	from, to := strings.TrimRight(c.Path(source), "/"), c.Path(destination)
	info, err := os.Lstat(from)
	if err != nil {
		c.Error("can't rename '%s': %s", source, call.Reason(err))
		return
	}
	if there, missing := os.Lstat(to); missing == nil {
		switch {
		case options.Last("fin") == 'n':
			return
		case sameFile(info, there):
			c.Error("'%s' and '%s' are the same file", source, destination)
			return
		case there.IsDir() && !info.IsDir():
			c.Error("cannot overwrite directory '%s' with non-directory '%s'", destination, source)
			return
		}
	}
	err = os.Rename(from, to)
	if errors.Is(err, syscall.EXDEV) {
		// Another mount: a rename does not reach it.
		job := &copier{Call: c, recursive: true, links: true, preserve: true}
		job.source, job.destination = path.Clean(from), path.Clean(to)
		if !job.copy(source, destination) {
			return
		}
		err = os.RemoveAll(from)
	}
	switch {
	case err != nil:
		c.Error("can't rename '%s': %s", source, call.Reason(err))
	case options.Has('v'):
		c.Print("'%s' -> '%s'\n", source, destination)
	}
}
