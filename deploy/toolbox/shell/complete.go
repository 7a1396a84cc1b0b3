package shell

import (
	"os"
	"path"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/interp"
)

// completion is a word that may stand where one was begun.
type completion struct {
	text  string // in place of the word, escaped
	shown string
}

// special are the characters that a shell reads as something else.
const special = " \t\\'\"$`&|;<>()*?[]{}#~!"

// completer tells what a word may become: a command at the beginning of one, else a file.
func (b *Box) completer(runner *interp.Runner) func(line string, at int) []completion {
	return func(line string, at int) []completion {
		word, isCommand := wordAt(line[:at])
		if isCommand && !strings.Contains(word, "/") {
			return b.commands(runner, unescape(word))
		}
		return filesLike(runner.Dir, unescape(word))
	}
}

// wordAt is the word that ends at a line's end, and whether a command's name is expected there.
func wordAt(line string) (string, bool) {
	start := len(line)
	for start > 0 {
		b := line[start-1]
		if strings.IndexByte(" \t;|&<>(", b) >= 0 && (start < 2 || line[start-2] != '\\') {
			break
		}
		start--
	}
	before := strings.TrimRight(line[:start], " \t")
	isCommand := before == "" || strings.IndexByte(";|&(", before[len(before)-1]) >= 0
	return line[start:], isCommand
}

func unescape(word string) string {
	var plain strings.Builder
	for at := 0; at < len(word); at++ {
		if word[at] == '\\' && at+1 < len(word) {
			at++
		}
		plain.WriteByte(word[at])
	}
	return plain.String()
}

func escape(text string) string {
	var escaped strings.Builder
	for at := range len(text) {
		if strings.IndexByte(special, text[at]) >= 0 {
			escaped.WriteByte('\\')
		}
		escaped.WriteByte(text[at])
	}
	return escaped.String()
}

func (b *Box) commands(runner *interp.Runner, begun string) []completion {
	names := append(b.Names(), "cd", "exit", "export", "read", "set", "source", "type", "unset", "wait")
	for name := range runner.Funcs {
		names = append(names, name)
	}
	slices.Sort(names)
	var found []completion
	for _, name := range slices.Compact(names) {
		if strings.HasPrefix(name, begun) {
			found = append(found, completion{name + " ", name})
		}
	}
	return found
}

func filesLike(directory, begun string) []completion {
	parent, prefix := path.Split(begun)
	where := parent
	if !path.IsAbs(where) {
		where = path.Join(directory, where)
	}
	entries, err := os.ReadDir(where)
	if err != nil {
		return nil // no such directory has no files
	}
	var found []completion
	for _, entry := range entries {
		name := entry.Name()
		if !strings.HasPrefix(name, prefix) || (strings.HasPrefix(name, ".") && !strings.HasPrefix(prefix, ".")) {
			continue
		}
		end := " "
		if info, err := os.Stat(path.Join(where, name)); err == nil && info.IsDir() {
			end = "/"
		}
		found = append(found, completion{escape(parent+name) + end, name + strings.TrimSpace(end)})
	}
	return found
}

// tab completes the word before the cursor as far as it is certain, or shows what it may become.
func (e *editor) tab(line string, at int) (string, int, bool) {
	found := e.complete(line, at)
	if len(found) == 0 {
		return line, at, true
	}
	word, _ := wordAt(line[:at])
	common := found[0].text
	for _, other := range found[1:] {
		n := 0
		for n < len(common) && n < len(other.text) && common[n] == other.text[n] {
			n++
		}
		common = common[:n]
	}
	if len(common) > len(word) {
		start := at - len(word)
		return line[:start] + common + line[at:], start + len(common), true
	}
	if len(found) > 1 {
		e.choices(found)
	}
	return line, at, true
}

// choices shows what a word may become, in columns below the line that is edited.
func (e *editor) choices(found []completion) {
	_, width, err := e.call.Terminal.Size()
	if err != nil || width == 0 {
		width = 80
	}
	widest := 0
	for _, choice := range found {
		widest = max(widest, len(choice.shown)+2)
	}
	columns := max(1, width/widest)
	var text strings.Builder
	for at, choice := range found {
		text.WriteString(choice.shown)
		if (at+1)%columns == 0 || at+1 == len(found) {
			text.WriteString("\n")
		} else {
			text.WriteString(strings.Repeat(" ", widest-len(choice.shown)))
		}
	}
	// The terminal clears the line, writes this above it, and shows the line again.
	_, _ = e.screen.Write([]byte(text.String())) // a failed write is seen by the next one
}
