package shell

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"golang.org/x/term"

	"vkubelet.local/toolbox/call"
)

// Keys that the editor itself handles.
const (
	keyInterrupt = 3
	keyTab       = '\t'
	keySearch    = 18 // Ctrl-R
	keyEscape    = 27
)

// lineEnd ends a line on a raw terminal.
const lineEnd = "\r\n"

// sequences are the keys that terminals send otherwise than golang.org/x/term reads them.
var sequences = map[string]string{
	"\x1bOA": "\x1b[A", "\x1bOB": "\x1b[B", "\x1bOC": "\x1b[C", "\x1bOD": "\x1b[D", // cursor keys of some modes
	"\x1bOH": "\x01", "\x1b[1~": "\x01", "\x1b[7~": "\x01", // Home
	"\x1bOF": "\x05", "\x1b[4~": "\x05", "\x1b[8~": "\x05", // End
	"\x1bb": "\x1b[1;3D", "\x1b[1;5D": "\x1b[1;3D", // a word to the left
	"\x1bf": "\x1b[1;3C", "\x1b[1;5C": "\x1b[1;3C", // a word to the right
}

// editor reads lines from a person at a terminal.
type editor struct {
	call     *call.Call
	history  *history
	complete func(line string, at int) []completion
	screen   *term.Terminal // of the line that is edited
}

// line shows a prompt and reads a line. io.EOF is Ctrl-D on an empty one, errInterrupted Ctrl-C.
func (e *editor) line(prompt string) (string, error) {
	terminal := e.call.Terminal
	if err := terminal.SetRaw(true); err != nil {
		return "", err
	}
	keys := &keyboard{files: e.call.Files()}
	// Only the last line of a prompt is redrawn.
	if at := strings.LastIndexByte(prompt, '\n'); at >= 0 {
		keys.Write([]byte(strings.ReplaceAll(prompt[:at+1], "\n", "\r\n")))
		prompt = prompt[at+1:]
	}
	screen := term.NewTerminal(keys, prompt)
	e.screen = screen
	screen.History = e.history
	e.history.search = nil
	screen.AutoCompleteCallback = func(line string, at int, key rune) (string, int, bool) {
		switch key {
		case keyTab:
			return e.tab(line, at)
		case keySearch:
			return e.history.find(line)
		}
		e.history.search = nil
		return "", 0, false
	}
	keys.before = func() {
		if rows, columns, err := terminal.Size(); err == nil && columns > 0 {
			_ = screen.SetSize(columns, rows) // a failed write is seen by the next one
		}
	}
	keys.before()
	line, err := screen.ReadLine()
	if errors.Is(err, errInterrupted) {
		keys.Write([]byte("^C\r\n"))
	}
	if errors.Is(err, io.EOF) {
		keys.Write([]byte("\r\n"))
	}
	if failed := terminal.SetRaw(false); err == nil {
		err = failed
	}
	keys.release("\n")
	return line, err // as it is: the parser knows io.EOF by its identity
}

// keyboard gives the terminal's keys one by one, so that nothing is read ahead of what a command may want, and
// takes what is to be shown. The end of a line is shown when the terminal is raw no more: a Ctrl-C of someone who
// saw it is never taken for a key that was typed ahead.
type keyboard struct {
	files  call.Files
	before func() // called before each key is waited for
	ready  string
	held   bool // whether an end of a line is still to be shown
}

func (k *keyboard) Write(data []byte) (int, error) {
	k.release(lineEnd)
	shown, ended := bytes.CutSuffix(data, []byte(lineEnd))
	k.held = ended
	if n, err := k.files.Stdout.Write(shown); err != nil {
		return n, err
	}
	return len(data), nil
}

// release shows what was held back; end is how the terminal's mode has it.
func (k *keyboard) release(end string) {
	if k.held {
		k.held = false
		k.files.Stdout.Write([]byte(end)) // a failed write is seen by the next one
	}
}

func (k *keyboard) Read(data []byte) (int, error) {
	if k.ready == "" {
		k.before()
		key, err := k.key()
		if err != nil {
			return 0, err
		}
		k.before()
		k.ready = key
	}
	n := copy(data, k.ready)
	k.ready = k.ready[n:]
	return n, nil
}

// key waits for one key, with all the bytes that a terminal sends for it.
func (k *keyboard) key() (string, error) {
	k.release(lineEnd)
	first, err := k.read()
	switch {
	case err != nil:
		return "", err
	case first == keyInterrupt:
		return "", errInterrupted
	case first != keyEscape:
		return string([]byte{first}), nil
	}
	sequence := []byte{first}
	for {
		next, err := k.read()
		if err != nil {
			return "", err
		}
		sequence = append(sequence, next)
		introducer := len(sequence) == 2 && (next == '[' || next == 'O')
		if !introducer && (len(sequence) == 2 || next >= 0x40 && next <= 0x7e) {
			break
		}
	}
	if known, ok := sequences[string(sequence)]; ok {
		return known, nil
	}
	return string(sequence), nil
}

func (k *keyboard) read() (byte, error) {
	var one [1]byte
	for {
		n, err := k.files.Stdin.Read(one[:])
		if n > 0 {
			return one[0], nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// historySize is how many lines are kept.
const historySize = 1000

// history are the lines so far, the latest last.
type history struct {
	lines  []string
	search *search
}

// search is a Ctrl-R that may go on.
type search struct {
	text string
	at   int // index in lines of what was found
}

// Add keeps a line, unless it is blank or the same again. Implements term.History.
func (h *history) Add(line string) {
	if strings.TrimSpace(line) == "" || (len(h.lines) > 0 && h.lines[len(h.lines)-1] == line) {
		return
	}
	h.lines = append(h.lines, line)
	h.lines = h.lines[max(0, len(h.lines)-historySize):]
}

// Len implements term.History.
func (h *history) Len() int { return len(h.lines) }

// At implements term.History: 0 is the latest.
func (h *history) At(index int) string { return h.lines[len(h.lines)-1-index] }

// find replaces the line by the latest that contains it; when that is called again, by the one before.
func (h *history) find(line string) (string, int, bool) {
	if h.search == nil || h.lines[h.search.at] != line {
		h.search = &search{line, len(h.lines)}
	}
	for at := h.search.at - 1; at >= 0; at-- {
		if strings.Contains(h.lines[at], h.search.text) {
			h.search.at = at
			return h.lines[at], len(h.lines[at]), true
		}
	}
	if h.search.at == len(h.lines) {
		h.search = nil
	}
	return line, len(line), true
}
