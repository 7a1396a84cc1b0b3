package applets

import (
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"vkubelet.local/toolbox/call"
	"vkubelet.local/toolbox/system"
)

// entry is one name that ls shows.
type entry struct {
	name string // as it is shown
	path string
	info fs.FileInfo
}

type lister struct {
	*call.Call
	options *call.Options
	headers bool
	shown   bool // something was, so that a blank line comes before the next directory
}

func ls(c *call.Call) int {
	options := c.Options("1AaCcdFhilnpQRrSstuLH", call.Long{
		"all": 'a', "almost-all": 'A', "directory": 'd', "recursive": 'R', "reverse": 'r',
		"human-readable": 'h', "classify": 'F', "inode": 'i', "dereference": 'L',
	}, 1)
	names := c.Args
	if len(names) == 0 {
		names = []string{"."}
	}
	l := &lister{Call: c, options: options, headers: len(names) > 1 || options.Has('R')}
	var files, directories []entry
	for _, name := range names {
		found, ok := l.look(name, name, !options.Has('l') || options.Has('L'))
		if !ok {
			continue
		}
		if found.info.IsDir() && !options.Has('d') {
			directories = append(directories, found)
		} else {
			files = append(files, found)
		}
	}
	l.show(files)
	l.sort(directories)
	for _, directory := range directories {
		l.directory(directory)
	}
	return 0
}

func (l *lister) look(name, shown string, follow bool) (entry, bool) {
	where := l.Path(name)
	info, err := os.Lstat(where)
	if err == nil && follow && info.Mode()&fs.ModeSymlink != 0 {
		if target, failure := os.Stat(where); failure == nil {
			info = target
		}
	}
	if err != nil {
		l.Fail(name, err)
		return entry{}, false
	}
	return entry{name: shown, path: where, info: info}, true
}

func (l *lister) directory(directory entry) {
	if l.headers {
		if l.shown {
			l.Print("\n")
		}
		l.Print("%s:\n", directory.name)
		l.shown = true
	}
	found, err := call.ReadDir(directory.path)
	if err != nil {
		l.Fail(directory.name, err)
	}
	var entries, below []entry
	if l.options.Last("aA") == 'a' {
		for _, name := range []string{".", ".."} {
			if dot, ok := l.look(path.Join(directory.path, name), name, false); ok {
				entries = append(entries, dot)
			}
		}
	}
	for _, item := range found {
		if strings.HasPrefix(item.Name(), ".") && l.options.Last("aA") == 0 {
			continue
		}
		child, ok := l.look(path.Join(directory.path, item.Name()), item.Name(), l.options.Has('L'))
		if !ok {
			continue
		}
		entries = append(entries, child)
		if child.info.IsDir() {
			child.name = path.Join(directory.name, child.name)
			if directory.name == "." {
				child.name = "./" + child.name
			}
			below = append(below, child)
		}
	}
	if l.options.Has('l') || l.options.Has('s') {
		var total int64
		for _, item := range entries {
			total += blocks(item.info)
		}
		l.Print("total %d\n", total)
	}
	l.show(entries)
	if l.options.Has('R') {
		l.sort(below)
		for _, child := range below {
			l.directory(child)
		}
	}
}

// blocks is the size in KiB: WASI tells nothing of what a file takes on a disk.
func blocks(info fs.FileInfo) int64 {
	if info.IsDir() {
		return 0
	}
	return (info.Size() + 1023) / 1024
}

func (l *lister) sort(entries []entry) {
	by := l.options.Last("St")
	slices.SortStableFunc(entries, func(a, b entry) int {
		order := 0
		switch by {
		case 'S':
			order = compare(b.info.Size(), a.info.Size())
		case 't':
			order = shownTime(l.options, b.info).Compare(shownTime(l.options, a.info))
		}
		if order == 0 {
			order = strings.Compare(a.name, b.name)
		}
		if l.options.Has('r') {
			return -order
		}
		return order
	})
}

func compare(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (l *lister) show(entries []entry) {
	if len(entries) == 0 {
		return
	}
	l.sort(entries)
	l.shown = true
	rows := make([][]string, 0, len(entries))
	for _, item := range entries {
		rows = append(rows, l.row(item))
	}
	if l.options.Last("lnC1") != 'l' && l.options.Last("lnC1") != 'n' {
		names := make([]string, 0, len(rows))
		for _, row := range rows {
			names = append(names, strings.Join(row, " "))
		}
		if width := l.columns(); width > 0 {
			l.grid(names, width)
			return
		}
		for _, name := range names {
			l.Print("%s\n", name)
		}
		return
	}
	align(l.Call, rows)
}

// columns is the width to fill, 0 for one name a line.
func (l *lister) columns() int {
	chosen := l.options.Last("C1")
	if chosen == '1' {
		return 0
	}
	if l.Terminal != nil {
		if _, width, err := l.Terminal.Size(); err == nil && width > 0 {
			return width
		}
	}
	if chosen == 'C' {
		return 80
	}
	return 0
}

func (l *lister) grid(names []string, width int) {
	widest := 0
	for _, name := range names {
		widest = max(widest, utf8.RuneCountInString(name))
	}
	columns := max(1, (width+2)/(widest+2))
	lines := (len(names) + columns - 1) / columns
	for line := range lines {
		for at := line; at < len(names); at += lines {
			l.Print("%s", names[at])
			if at+lines < len(names) {
				l.Print("%s", strings.Repeat(" ", widest+2-utf8.RuneCountInString(names[at])))
			}
		}
		l.Print("\n")
	}
}

// row is what a line shows of an entry, column by column; the name with all that belongs to it is the last.
func (l *lister) row(item entry) []string {
	var row []string
	if l.options.Has('i') {
		row = append(row, strconv.FormatUint(inode(item.info), 10))
	}
	if l.options.Has('s') {
		row = append(row, strconv.FormatInt(blocks(item.info), 10))
	}
	name := item.name
	if l.options.Has('Q') {
		name = strconv.Quote(name)
	}
	long := l.options.Has('l') || l.options.Has('n')
	if long {
		size := strconv.FormatInt(item.info.Size(), 10)
		if l.options.Has('h') {
			size = human(item.info.Size())
		}
		mode, user, group := l.owned(item)
		row = append(row, mode, strconv.FormatUint(links(item.info), 10), user, group, size,
			listTime(shownTime(l.options, item.info)))
	}
	link := item.info.Mode()&fs.ModeSymlink != 0
	switch {
	case link && long:
		if target, err := os.Readlink(item.path); err == nil {
			name += " -> " + target
		}
	case link && l.options.Has('F'):
		name += "@"
	case item.info.IsDir() && (l.options.Has('F') || l.options.Has('p')):
		name += "/"
	}
	return append(row, name)
}

// owned tells an entry's permissions and its owners; what has gone meanwhile has none.
func (l *lister) owned(item entry) (mode, user, group string) {
	look := system.Stat
	if item.info.Mode()&fs.ModeSymlink != 0 {
		look = system.Lstat
	}
	found, err := look(item.path)
	if err != nil {
		l.Fail(item.name, err)
		return "-?????????", "?", "?"
	}
	name := userName
	if l.options.Has('n') {
		name = func(id uint32) string { return strconv.FormatUint(uint64(id), 10) }
	}
	return symbolic(found.Mode), name(found.User), name(found.Group)
}

// align prints rows with each column as wide as its widest cell; all but names and modes to the right.
func align(c *call.Call, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for at, cell := range row {
			widths[at] = max(widths[at], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		for at, cell := range row {
			padding := strings.Repeat(" ", widths[at]-utf8.RuneCountInString(cell))
			switch {
			case at == len(row)-1:
				c.Print("%s\n", cell)
			case isNumber(cell):
				c.Print("%s%s ", padding, cell)
			default:
				c.Print("%s%s ", cell, padding)
			}
		}
	}
}

func isNumber(cell string) bool {
	return cell != "" && cell[0] >= '0' && cell[0] <= '9'
}
