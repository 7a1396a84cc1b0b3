package applets

import (
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"vkubelet.local/toolbox/call"
)

// found is what an expression is asked about.
type found struct {
	shown string
	path  string
	info  fs.FileInfo
	depth int
}

// test is a part of find's expression.
type test func(found) bool

type finder struct {
	*call.Call
	words      []string
	acts       bool // the expression has an action of its own, so that nothing is printed by itself
	depthFirst bool
	follow     bool
	least      int
	most       int
	pruned     bool
	quit       bool
	batches    []*batch
	now        time.Time
}

// batch is `-exec COMMAND {} +`.
type batch struct {
	command []string
	names   []string
}

func find(c *call.Call) int {
	f := &finder{Call: c, most: 1 << 30, now: time.Now()}
	var roots []string
	args := c.Args
	if len(args) > 0 && args[0] == "--help" {
		c.Options("", nil, 1)
	}
	for len(args) > 0 && (args[0] == "-L" || args[0] == "-H" || args[0] == "-P") {
		f.follow = args[0] == "-L"
		args = args[1:]
	}
	for len(args) > 0 && !strings.HasPrefix(args[0], "-") && args[0] != "!" && args[0] != "(" {
		roots, args = append(roots, args[0]), args[1:]
	}
	f.words = args
	expression := func(found) bool { return true }
	if len(args) > 0 {
		expression = f.or()
		if len(f.words) > 0 {
			f.Die(1, "unexpected '%s'", f.words[0])
		}
	}
	if !f.acts {
		chosen := expression
		expression = func(at found) bool {
			if chosen(at) {
				f.Print("%s\n", at.shown)
			}
			return true
		}
	}
	for _, root := range inputsOr(roots, ".") {
		f.walk(root, 0, expression)
	}
	for _, b := range f.batches {
		f.runBatch(b)
	}
	return 0
}

func (f *finder) walk(name string, depth int, expression test) {
	if f.quit {
		return
	}
	where := f.Path(name)
	info, err := os.Lstat(where)
	if err == nil && f.follow {
		if target, failure := os.Stat(where); failure == nil {
			info = target
		}
	}
	if err != nil {
		f.Fail(name, err)
		return
	}
	at := found{shown: name, path: where, info: info, depth: depth}
	f.pruned = false
	if !f.depthFirst && depth >= f.least {
		expression(at)
	}
	if info.IsDir() && depth < f.most && !f.pruned && !f.quit {
		entries, err := call.ReadDir(where)
		if err != nil {
			f.Fail(name, err)
		}
		for _, entry := range entries {
			f.walk(strings.TrimSuffix(name, "/")+"/"+entry.Name(), depth+1, expression)
		}
	}
	if f.depthFirst && depth >= f.least && !f.quit {
		expression(at)
	}
}

func (f *finder) next() string {
	if len(f.words) == 0 {
		return ""
	}
	word := f.words[0]
	f.words = f.words[1:]
	return word
}

func (f *finder) or() test {
	left := f.and()
	for len(f.words) > 0 && (f.words[0] == "-o" || f.words[0] == "-or") {
		f.next()
		first, second := left, f.and()
		left = func(at found) bool { return first(at) || second(at) }
	}
	return left
}

func (f *finder) and() test {
	left := f.not()
	for len(f.words) > 0 && f.words[0] != "-o" && f.words[0] != "-or" && f.words[0] != ")" {
		if f.words[0] == "-a" || f.words[0] == "-and" {
			f.next()
		}
		first, second := left, f.not()
		left = func(at found) bool { return first(at) && second(at) }
	}
	return left
}

func (f *finder) not() test {
	switch {
	case len(f.words) == 0:
		f.Die(1, "the expression ends too early")
	case f.words[0] == "!" || f.words[0] == "-not":
		f.next()
		inner := f.not()
		return func(at found) bool { return !inner(at) }
	case f.words[0] == "(":
		f.next()
		inner := f.or()
		if f.next() != ")" {
			f.Die(1, "missing ')'")
		}
		return inner
	}
	return f.primary(f.next())
}

func (f *finder) value(name string) string {
	if len(f.words) == 0 {
		f.Die(1, "%s needs an argument", name)
	}
	return f.next()
}

func always(found) bool { return true }

func (f *finder) primary(name string) test {
	switch name {
	case "-true":
		return always
	case "-false":
		return func(found) bool { return false }
	case "-depth":
		f.depthFirst = true
		return always
	case "-xdev", "-mount":
		f.Die(1, "%s: an instance cannot tell its mounts apart", name)
	case "-maxdepth", "-mindepth":
		number, err := strconv.Atoi(f.value(name))
		if err != nil || number < 0 {
			f.Die(1, "%s needs a number", name)
		}
		if name == "-maxdepth" {
			f.most = number
		} else {
			f.least = number
		}
		return always
	case "-name", "-iname":
		return f.matching(name, f.value(name), func(at found) string { return path.Base(at.shown) })
	case "-path", "-ipath", "-wholename":
		return f.matching(name, f.value(name), func(at found) string { return at.shown })
	case "-regex":
		pattern, err := compileRegular("^\\("+f.value(name)+"\\)$", false, false)
		if err != nil {
			f.Die(1, "-regex: %v", err)
		}
		return func(at found) bool { return pattern.MatchString(at.shown) }
	case "-type":
		kinds := f.value(name)
		return func(at found) bool { return strings.ContainsRune(kinds, typeLetter(at.info.Mode())) }
	case "-empty":
		return func(at found) bool { return empty(at) }
	case "-size":
		return f.size(f.value(name))
	case "-mtime", "-mmin", "-atime", "-amin":
		return f.aged(name, f.value(name))
	case "-newer":
		reference := f.value(name)
		info, err := os.Stat(f.Path(reference))
		if err != nil {
			f.Fail(reference, err)
			f.End(1)
		}
		return func(at found) bool { return at.info.ModTime().After(info.ModTime()) }
	case "-links":
		wanted := f.compared(name, f.value(name))
		return func(at found) bool { return wanted(int64(links(at.info))) }
	case "-inum":
		wanted := f.compared(name, f.value(name))
		return func(at found) bool { return wanted(int64(inode(at.info))) }
	}
	return f.action(name)
}

func (f *finder) action(name string) test {
	switch name {
	case "-prune":
		return func(found) bool {
			f.pruned = true
			return true
		}
	case "-print", "-print0":
		f.acts = true
		end := map[string]string{"-print": "\n", "-print0": "\x00"}[name]
		return func(at found) bool {
			f.Print("%s%s", at.shown, end)
			return true
		}
	case "-printf":
		f.Die(1, "-printf is not supported: use -exec stat -c FORMAT {} +")
	case "-quit":
		f.acts = true
		return func(found) bool {
			f.quit = true
			return true
		}
	case "-delete":
		f.acts, f.depthFirst = true, true
		return func(at found) bool {
			if at.shown == "." {
				return true
			}
			if err := os.Remove(at.path); err != nil {
				f.Error("cannot delete '%s': %s", at.shown, call.Reason(err))
				return false
			}
			return true
		}
	case "-exec":
		f.acts = true
		return f.exec()
	}
	f.Die(1, "unrecognized: %s", name)
	return nil
}

func (f *finder) exec() test {
	var command []string
	for {
		word := f.value("-exec")
		if word == ";" {
			return func(at found) bool {
				args := make([]string, len(command))
				for i, arg := range command {
					args[i] = strings.ReplaceAll(arg, "{}", at.shown)
				}
				return f.Exec(f.Call, args) == 0
			}
		}
		if word == "+" && len(command) > 1 && command[len(command)-1] == "{}" {
			b := &batch{command: command[:len(command)-1]}
			f.batches = append(f.batches, b)
			return func(at found) bool {
				b.names = append(b.names, at.shown)
				if len(b.names) == 1000 {
					f.runBatch(b)
				}
				return true
			}
		}
		command = append(command, word)
	}
}

func (f *finder) runBatch(b *batch) {
	if len(b.names) > 0 && f.Exec(f.Call, append(b.command[:len(b.command):len(b.command)], b.names...)) != 0 {
		f.FailQuietly()
	}
	b.names = nil
}

func (f *finder) matching(name, pattern string, of func(found) string) test {
	fold := func(text string) string { return text }
	if strings.HasPrefix(name, "-i") {
		fold = strings.ToLower
	}
	wild, err := wildcard(fold(pattern))
	if err != nil {
		f.Die(1, "%s: bad pattern '%s'", name, pattern)
	}
	return func(at found) bool { return wild(fold(of(at))) }
}

func typeLetter(mode fs.FileMode) rune {
	switch {
	case mode.IsDir():
		return 'd'
	case mode&fs.ModeSymlink != 0:
		return 'l'
	case mode&fs.ModeCharDevice != 0:
		return 'c'
	case mode&fs.ModeDevice != 0:
		return 'b'
	case mode&fs.ModeSocket != 0:
		return 's'
	}
	return 'f'
}

func empty(at found) bool {
	if at.info.IsDir() {
		entries, err := call.ReadDir(at.path)
		return err == nil && len(entries) == 0
	}
	return at.info.Mode().IsRegular() && at.info.Size() == 0
}

// compared reads `5`, `+5` (more) or `-5` (less).
func (f *finder) compared(name, text string) func(int64) bool {
	sign := byte(0)
	if text != "" && (text[0] == '+' || text[0] == '-') {
		sign, text = text[0], text[1:]
	}
	number, err := parseInt(text)
	if err != nil {
		f.Die(1, "%s needs a number", name)
	}
	return func(value int64) bool {
		switch sign {
		case '+':
			return value > number
		case '-':
			return value < number
		}
		return value == number
	}
}

func (f *finder) size(text string) test {
	unit := int64(512)
	if text != "" {
		if factor, ok := map[byte]int64{'c': 1, 'w': 2, 'b': 512, 'k': 1 << 10, 'M': 1 << 20, 'G': 1 << 30}[text[len(text)-1]]; ok {
			unit, text = factor, text[:len(text)-1]
		}
	}
	wanted := f.compared("-size", text)
	return func(at found) bool { return wanted((at.info.Size() + unit - 1) / unit) }
}

func (f *finder) aged(name, text string) test {
	unit := 24 * time.Hour
	if strings.HasSuffix(name, "min") {
		unit = time.Minute
	}
	wanted := f.compared(name, text)
	return func(at found) bool {
		when := at.info.ModTime()
		if name[1] == 'a' {
			when = accessed(at.info)
		}
		return wanted(int64(f.now.Sub(when) / unit))
	}
}
