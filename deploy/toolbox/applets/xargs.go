package applets

import (
	"errors"
	"io"
	"strings"

	"vkubelet.local/toolbox/call"
)

// maxBatch is how many bytes of arguments one command gets, as busybox has it.
const maxBatch = 32 << 10

func xargs(c *call.Call) int {
	options := c.Options("+0rtn:I:L:d:P:", call.Long{
		"null": '0', "no-run-if-empty": 'r', "verbose": 't', "max-args": 'n', "max-lines": 'L', "delimiter": 'd',
	}, 1)
	if options.Has('P') {
		c.Die(1, "-P: commands run one after the other here")
	}
	command := inputsOr(c.Args, "echo")
	limit := c.Number(options, 'n', 1<<30, 1)
	delimiter := options.Value('d', "")
	if options.Has('0') {
		delimiter = "\x00"
	} else if options.Has('I') || options.Has('L') {
		delimiter = "\n"
		limit = min(limit, c.Number(options, 'L', 1, 1))
	}
	read := wordReader{lines: newLineReader(c.Stdin), delimiter: delimiter}
	status, ran := 0, false
	run := func(args []string) bool {
		ran = true
		if options.Has('t') {
			c.Note("%s", strings.Join(args, " "))
		}
		switch code := c.Exec(detached(c), args); {
		case code == 126 || code == 127 || code == 255:
			status = map[int]int{126: 126, 127: 127, 255: 124}[code]
			return false
		case code != 0:
			status = 123
		}
		return true
	}
	var batch []string
	size := 0
	for {
		word, err := read.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			c.Die(1, "%s", call.Reason(err))
		}
		if token := options.Value('I', ""); token != "" {
			args := make([]string, len(command))
			for at, arg := range command {
				args[at] = strings.ReplaceAll(arg, token, word)
			}
			if !run(args) {
				return status
			}
			continue
		}
		batch = append(batch, word)
		size += len(word) + 1
		if len(batch) == limit || size >= maxBatch {
			if !run(append(command[:len(command):len(command)], batch...)) {
				return status
			}
			batch, size = nil, 0
		}
	}
	if len(batch) > 0 || (!ran && !options.Has('r') && !options.Has('I')) {
		run(append(command[:len(command):len(command)], batch...))
	}
	return status
}

// detached is the call with nothing to read: the input is xargs' own.
func detached(c *call.Call) *call.Call {
	inner := *c
	inner.Stdin = strings.NewReader("")
	return &inner
}

// wordReader splits the input into arguments: at a delimiter, or at blanks that are not quoted.
type wordReader struct {
	lines     lineReader
	delimiter string
}

func (r *wordReader) next() (string, error) {
	if r.delimiter == "\n" {
		for {
			line, _, err := r.lines.next()
			if line = strings.TrimLeft(line, " \t"); err != nil || line != "" {
				return line, err
			}
		}
	}
	if r.delimiter != "" {
		text, err := r.lines.ReadString(r.delimiter[0])
		if err != nil && text == "" {
			return "", err
		}
		return strings.TrimSuffix(text, r.delimiter[:1]), nil
	}
	var word strings.Builder
	started := false
	quote := byte(0)
	for {
		b, err := r.lines.ReadByte()
		switch {
		case err != nil && quote != 0:
			return "", errors.New("unmatched quote")
		case err != nil && started:
			return word.String(), nil
		case err != nil:
			return "", err
		case quote != 0 && b == quote:
			quote = 0
		case quote != 0:
			word.WriteByte(b)
		case b == '\'' || b == '"':
			quote, started = b, true
		case b == '\\':
			if b, err = r.lines.ReadByte(); err == nil {
				word.WriteByte(b)
			}
			started = true
		case b == ' ' || b == '\t' || b == '\n':
			if started {
				return word.String(), nil
			}
		default:
			word.WriteByte(b)
			started = true
		}
	}
}
