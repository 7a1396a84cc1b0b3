package applets

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"vkubelet.local/toolbox/call"
)

const grepUsage = "[-EFGHLRahilnoqrsvwx] [-c] [-m COUNT] [-A|-B|-C LINES] [-e] PATTERN [FILE...]"

// Letters for grep's options without one.
const (
	grepInclude = '\x01'
	grepExclude = '\x02'
)

type grepper struct {
	*call.Call
	options       *call.Options
	pattern       *regexp.Regexp
	names         bool
	before, after int
	limit         int
	found         bool
}

func grep(c *call.Call) int {
	options := c.Options("EFGHLRahilnoqrsvwxcm:A:B:C:e:f:\x01:\x02:", call.Long{
		"extended-regexp": 'E', "fixed-strings": 'F', "basic-regexp": 'G', "with-filename": 'H', "no-filename": 'h',
		"files-without-match": 'L', "files-with-matches": 'l', "recursive": 'r', "ignore-case": 'i', "line-number": 'n',
		"only-matching": 'o', "quiet": 'q', "silent": 'q', "no-messages": 's', "invert-match": 'v', "word-regexp": 'w',
		"line-regexp": 'x', "count": 'c', "max-count": 'm', "after-context": 'A', "before-context": 'B', "context": 'C',
		"regexp": 'e', "file": 'f', "text": 'a', "include": grepInclude, "exclude": grepExclude,
	}, 2)
	g := &grepper{Call: c, options: options}
	context := c.Number(options, 'C', 0, 0)
	g.before, g.after = c.Number(options, 'B', context, 0), c.Number(options, 'A', context, 0)
	g.limit = c.Number(options, 'm', -1, 0)
	g.pattern = g.compile(g.patterns())
	recursive := options.Has('r') || options.Has('R')
	names := c.Args
	if len(names) == 0 && recursive {
		names = []string{"."}
	}
	g.names = (len(names) > 1 || recursive) && options.Last("Hh") != 'h' || options.Last("Hh") == 'H'
	for _, name := range inputs(names) {
		if recursive && name != "-" {
			g.tree(name)
		} else {
			g.file(name)
		}
		if g.found && options.Has('q') {
			return 0
		}
	}
	switch {
	case c.Failed():
		c.FailStatus(2)
		return 0
	case g.found:
		return 0
	}
	return 1
}

// patterns are those of -e and -f, or else the first operand; each line is one.
func (g *grepper) patterns() []string {
	patterns := g.options.Values('e')
	for _, name := range g.options.Values('f') {
		file, err := g.Open(name)
		var text []byte
		if err == nil {
			text, err = io.ReadAll(file)
			file.Close()
		}
		if err != nil {
			g.Fail(name, err)
			g.End(2)
		}
		patterns = append(patterns, strings.TrimSuffix(string(text), "\n"))
	}
	if !g.options.Has('e') && !g.options.Has('f') {
		if len(g.Args) == 0 {
			g.Misused(2, "no pattern given")
		}
		patterns, g.Args = g.Args[:1], g.Args[1:]
	}
	return strings.Split(strings.Join(patterns, "\n"), "\n")
}

func (g *grepper) compile(patterns []string) *regexp.Regexp {
	kind := g.options.Last("EFG")
	if kind == 0 {
		kind = map[string]rune{"egrep": 'E', "fgrep": 'F'}[g.Name]
	}
	var alternatives []string
	for _, pattern := range patterns {
		text := regexp.QuoteMeta(pattern)
		if kind != 'F' {
			var err error
			if text, err = translate(pattern, kind == 'E'); err != nil {
				g.Die(2, "bad regex '%s': %v", pattern, err)
			}
		}
		alternatives = append(alternatives, "(?:"+text+")")
	}
	text := strings.Join(alternatives, "|")
	switch {
	case g.options.Has('x'):
		text = "^(?:" + text + ")$"
	case g.options.Has('w'):
		text = `\b(?:` + text + `)\b`
	}
	if g.options.Has('i') {
		text = "(?i)" + text
	}
	compiled, err := regexp.Compile(text)
	if err != nil {
		g.Die(2, "bad regex '%s': %v", strings.Join(patterns, "\n"), err)
	}
	compiled.Longest()
	return compiled
}

func (g *grepper) tree(root string) {
	err := filepath.WalkDir(g.Path(root), func(where string, entry fs.DirEntry, err error) error {
		shown := root + strings.TrimPrefix(where, strings.TrimSuffix(g.Path(root), "/"))
		if err != nil {
			g.complain(shown, err)
			return nil
		}
		link := entry.Type()&fs.ModeSymlink != 0
		if !entry.IsDir() && !(link && !g.options.Has('R') && where != g.Path(root)) && g.chosen(entry.Name()) {
			g.file(shown)
		}
		if g.found && g.options.Has('q') {
			return filepath.SkipAll
		}
		return nil
	})
	if err != nil {
		g.complain(root, err)
	}
}

func (g *grepper) chosen(name string) bool {
	matches := func(patterns []string) bool {
		for _, pattern := range patterns {
			if matched, err := path.Match(pattern, name); err == nil && matched {
				return true
			}
		}
		return false
	}
	included := g.options.Values(grepInclude)
	return (len(included) == 0 || matches(included)) && !matches(g.options.Values(grepExclude))
}

func (g *grepper) complain(name string, err error) {
	if g.options.Has('s') {
		g.FailQuietly()
		return
	}
	g.Fail(name, err)
}

func (g *grepper) file(name string) {
	shown := name
	if name == "-" {
		shown = "(standard input)"
	} else if info, err := os.Stat(g.Path(name)); err == nil && info.IsDir() {
		g.Error("%s: Is a directory", name)
		return
	}
	file, err := g.Open(name)
	if err == nil {
		defer file.Close()
		err = g.search(shown, file)
	}
	if err != nil {
		g.complain(name, err)
	}
}

// search goes through one input.
func (g *grepper) search(name string, file io.Reader) error {
	lines := newLineReader(file)
	listing := g.options.Has('l') || g.options.Has('L') || g.options.Has('q') || g.options.Has('c')
	matches, pending, lastShown := 0, 0, 0
	var held []string
	binary := false
	if peeked, err := lines.Peek(1); err == nil && len(peeked) > 0 {
		peeked, _ = lines.Peek(lines.Buffered())
		binary = !g.options.Has('a') && bytes.IndexByte(peeked, 0) >= 0
	}
	for number := 1; g.limit < 0 || matches < g.limit; number++ {
		line, _, err := lines.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if g.pattern.MatchString(line) == g.options.Has('v') {
			if pending > 0 && !listing {
				g.line(name, number, '-', line)
				pending, lastShown = pending-1, number
			} else if g.before > 0 {
				held = append(held, line)
				held = held[max(0, len(held)-g.before):]
			}
			continue
		}
		matches++
		g.found = true
		if g.options.Has('q') || g.options.Has('l') || g.options.Has('L') {
			break
		}
		if listing {
			continue
		}
		if binary {
			g.Print("Binary file %s matches\n", name)
			return nil
		}
		if (g.before > 0 || g.after > 0) && lastShown > 0 && number-len(held) > lastShown+1 {
			g.Print("--\n")
		}
		for at, before := range held {
			g.line(name, number-len(held)+at, '-', before)
		}
		held = held[:0]
		g.line(name, number, ':', line)
		pending, lastShown = g.after, number
	}
	switch {
	case g.options.Has('q'):
	case g.options.Has('l') && matches > 0, g.options.Has('L') && matches == 0:
		g.Print("%s\n", name)
	case g.options.Has('l'), g.options.Has('L'):
	case g.options.Has('c'):
		if g.names {
			g.Print("%s:", name)
		}
		g.Print("%d\n", matches)
	}
	return nil
}

func (g *grepper) line(name string, number int, mark byte, line string) {
	if g.options.Has('o') && mark == ':' {
		if !g.options.Has('v') {
			for _, match := range g.pattern.FindAllString(line, -1) {
				if match != "" {
					g.prefix(name, number, mark)
					g.Print("%s\n", match)
				}
			}
		}
		return
	}
	g.prefix(name, number, mark)
	g.Out.WriteString(line)
	g.Out.WriteByte('\n')
}

func (g *grepper) prefix(name string, number int, mark byte) {
	if g.names {
		g.Print("%s%c", name, mark)
	}
	if g.options.Has('n') {
		g.Print("%d%c", number, mark)
	}
}
