package applets

import (
	"bufio"
	"io"
	"strings"

	"vkubelet.local/toolbox/call"
)

// lineReader reads lines of any length.
type lineReader struct{ *bufio.Reader }

func newLineReader(source io.Reader) lineReader {
	return lineReader{bufio.NewReaderSize(source, 64<<10)}
}

// next is the next line without its end, and whether there was one.
func (l lineReader) next() (line string, ended bool, err error) {
	line, err = l.ReadString('\n')
	if err == io.EOF && line != "" {
		return line, false, nil
	}
	if err != nil {
		return "", false, err
	}
	return line[:len(line)-1], true, nil
}

// eachLine passes the lines of the inputs on, without their ends, until `use` says that it is enough.
func eachLine(c *call.Call, names []string, use func(line string) bool) {
	more := true
	for _, name := range inputs(names) {
		if !more {
			return
		}
		eachFile(c, name, func(file io.Reader) error {
			lines := newLineReader(file)
			for more {
				line, _, err := lines.next()
				if err == io.EOF {
					return nil
				}
				if err != nil {
					return err
				}
				more = use(line)
			}
			return nil
		})
	}
}

// counted reads a number with a unit of size, as head and tail take it.
func counted(c *call.Call, text string) int64 {
	number, err := size(text)
	if err != nil {
		c.Die(1, "invalid number '%s'", text)
	}
	return number
}

// size reads `10`, `10k`, `10M` and so on, in units of 1024; `b` is 512.
func size(text string) (int64, error) {
	factor := int64(1)
	if text != "" {
		unit := strings.ToLower(text[len(text)-1:])
		if at := strings.Index("kmgt", unit); at >= 0 {
			factor = 1 << (10 * (at + 1))
			text = text[:len(text)-1]
		} else if unit == "b" {
			factor = 512
			text = text[:len(text)-1]
		}
	}
	number, err := parseInt(text)
	return number * factor, err
}
