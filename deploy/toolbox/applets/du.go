package applets

import (
	"os"
	"path"
	"strconv"
	"strings"

	"vkubelet.local/toolbox/call"
)

type usage struct {
	*call.Call
	options *call.Options
	depth   int
	seen    map[[2]uint64]bool
}

// du counts the sizes of files, each once however many names it has. What a file takes on a disk, WASI does not
// tell: a size is rounded up to the unit that is shown.
func du(c *call.Call) int {
	options := c.Options("abhkmsd:", call.Long{
		"all": 'a', "bytes": 'b', "human-readable": 'h', "summarize": 's', "max-depth": 'd',
	}, 1)
	u := &usage{Call: c, options: options, depth: c.Number(options, 'd', 1<<30, 0), seen: map[[2]uint64]bool{}}
	if options.Has('s') {
		u.depth = 0
	}
	for _, name := range inputsOr(c.Args, ".") {
		u.walk(name, 0)
	}
	return 0
}

func (u *usage) walk(name string, depth int) int64 {
	info, err := os.Lstat(u.Path(name))
	if err != nil {
		u.Fail(name, err)
		return 0
	}
	if !info.IsDir() {
		id := [2]uint64{statOf(info).Dev, statOf(info).Ino}
		if u.seen[id] && links(info) > 1 {
			return 0
		}
		u.seen[id] = true
		if depth == 0 || (u.options.Has('a') && depth <= u.depth) {
			u.show(info.Size(), name)
		}
		return info.Size()
	}
	entries, err := call.ReadDir(u.Path(name))
	if err != nil {
		u.Fail(name, err)
	}
	var total int64
	for _, entry := range entries {
		child := path.Join(name, entry.Name())
		if strings.HasPrefix(name, ".") && !strings.HasPrefix(child, ".") {
			child = "./" + child
		}
		total += u.walk(child, depth+1)
	}
	if depth <= u.depth {
		u.show(total, name)
	}
	return total
}

func (u *usage) show(size int64, name string) {
	text := ""
	switch u.options.Last("bhkm") {
	case 'b':
		text = strconv.FormatInt(size, 10)
	case 'h':
		text = human(size)
	case 'm':
		text = strconv.FormatInt((size+1<<20-1)>>20, 10)
	default:
		text = strconv.FormatInt((size+1023)>>10, 10)
	}
	u.Print("%s\t%s\n", text, name)
}
