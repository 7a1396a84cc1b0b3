package applets

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"vkubelet.local/toolbox/call"
)

// followInterval is how often tail -f looks for more: WASI has no way to wait for a file to grow.
const followInterval = 500 * time.Millisecond

func parseInt(text string) (int64, error) { return strconv.ParseInt(text, 10, 64) }

// amount is what -n or -c says: how many, of what, and whether it was signed.
type amount struct {
	number int64
	bytes  bool
	sign   byte
}

// amountOf takes the options that head and tail share, and `-5` for `-n 5`.
func amountOf(c *call.Call, more string) (amount, *call.Options) {
	if len(c.Args) > 0 && len(c.Args[0]) > 1 && c.Args[0][0] == '-' && c.Args[0][1] >= '0' && c.Args[0][1] <= '9' {
		c.Args = append([]string{"-n", c.Args[0][1:]}, c.Args[1:]...)
	}
	options := c.Options("n:c:qv"+more, call.Long{
		"lines": 'n', "bytes": 'c', "quiet": 'q', "silent": 'q', "verbose": 'v', "follow": 'f',
	}, 1)
	letter := options.Last("nc")
	found := amount{bytes: letter == 'c'}
	text := options.Value(letter, "10")
	if text != "" && (text[0] == '-' || text[0] == '+') {
		found.sign, text = text[0], text[1:]
	}
	found.number = counted(c, text)
	return found, options
}

// titled shows each input under its name where there are several.
func titled(c *call.Call, options *call.Options, use func(name string, file io.Reader) error) {
	names := inputs(c.Args)
	titles := (len(names) > 1 || options.Has('v')) && !options.Has('q')
	for at, name := range names {
		eachFile(c, name, func(file io.Reader) error {
			if titles {
				title(c, at > 0, name)
			}
			return use(name, file)
		})
	}
}

func title(c *call.Call, gap bool, name string) {
	if gap {
		c.Print("\n")
	}
	if name == "-" {
		name = "standard input"
	}
	c.Print("==> %s <==\n", name)
}

func head(c *call.Call) int {
	wanted, options := amountOf(c, "")
	titled(c, options, func(_ string, file io.Reader) error {
		var err error
		switch {
		case wanted.bytes && wanted.sign == '-':
			err = allBut(c.Out, file, wanted.number)
		case wanted.bytes:
			_, err = call.Copy(c.Out, io.LimitReader(file, wanted.number))
		case wanted.sign == '-':
			err = allButLines(c.Out, file, wanted.number)
		default:
			err = firstLines(c, file, wanted.number)
		}
		return err
	})
	return 0
}

func firstLines(c *call.Call, file io.Reader, count int64) error {
	lines := bufio.NewReader(file)
	for range count {
		line, err := lines.ReadSlice('\n')
		for errors.Is(err, bufio.ErrBufferFull) {
			c.Out.Write(line)
			line, err = lines.ReadSlice('\n')
		}
		c.Out.Write(line)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// allBut copies all but the last bytes: only those are held.
func allBut(out io.Writer, file io.Reader, count int64) error {
	var held []byte
	block := call.Block()
	for {
		n, err := file.Read(block)
		held = append(held, block[:n]...)
		if extra := int64(len(held)) - count; extra > 0 {
			out.Write(held[:extra])
			held = append(held[:0], held[extra:]...)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func allButLines(out io.Writer, file io.Reader, count int64) error {
	var held [][]byte
	lines := bufio.NewReader(file)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			held = append(held, line)
		}
		if int64(len(held)) > count {
			out.Write(held[0])
			held = held[1:]
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func tail(c *call.Call) int {
	wanted, options := amountOf(c, "f")
	last := ""
	titled(c, options, func(name string, file io.Reader) error {
		last = name
		return tailOf(c, file, wanted)
	})
	if options.Has('f') {
		follow(c, options, last)
	}
	return 0
}

func tailOf(c *call.Call, file io.Reader, wanted amount) error {
	var err error
	switch {
	case wanted.sign == '+' && wanted.bytes:
		if _, err = call.Copy(io.Discard, io.LimitReader(file, wanted.number-1)); err == nil {
			_, err = call.Copy(c.Out, file)
		}
	case wanted.sign == '+':
		lines := bufio.NewReaderSize(file, 64<<10)
		for skipped := int64(1); skipped < wanted.number && err == nil; {
			_, err = lines.ReadSlice('\n')
			if errors.Is(err, bufio.ErrBufferFull) {
				err = nil
			} else {
				skipped++
			}
		}
		if err == io.EOF {
			return nil
		}
		if err == nil {
			_, err = call.Copy(c.Out, lines)
		}
	default:
		var end []byte
		if end, err = ending(file, wanted); err == nil {
			c.Out.Write(end)
		}
	}
	return err
}

// ending reads the last lines or bytes: of a file from its end, of a stream by holding as much as is wanted.
func ending(source io.Reader, wanted amount) ([]byte, error) {
	if file, ok := source.(*os.File); ok {
		if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
			return endingOfFile(file, info.Size(), wanted)
		}
	}
	var held []byte
	block := call.Block()
	for {
		n, err := source.Read(block)
		held = append(held, block[:n]...)
		if err != nil || len(held) > 4*len(block) {
			held = append([]byte(nil), last(held, wanted)...)
		}
		if err == io.EOF {
			return held, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func endingOfFile(file *os.File, size int64, wanted amount) ([]byte, error) {
	for span := int64(64 << 10); ; span *= 4 {
		span = min(span, size)
		held := make([]byte, span)
		if _, err := file.ReadAt(held, size-span); err != nil && err != io.EOF {
			return nil, err
		}
		found := last(held, wanted)
		if span == size || (len(found) < len(held) && int64(len(found)) <= span) {
			_, err := file.Seek(size, io.SeekStart)
			return found, err
		}
	}
}

// last is the end of what is held that is wanted.
func last(held []byte, wanted amount) []byte {
	if wanted.bytes {
		return held[max(0, int64(len(held))-wanted.number):]
	}
	if wanted.number == 0 {
		return nil
	}
	at := len(held)
	if at > 0 && held[at-1] == '\n' {
		at--
	}
	for left := wanted.number; left > 0; left-- {
		at = bytes.LastIndexByte(held[:max(at, 0)], '\n')
		if at < 0 {
			return held
		}
	}
	return held[at+1:]
}

// follow shows what is appended to the files, until the instance ends or nobody reads.
func follow(c *call.Call, options *call.Options, shown string) {
	type followed struct {
		name string
		at   int64
	}
	var files []*followed
	waits := false // for more of /dev/null, as people keep a container running
	for _, name := range inputs(c.Args) {
		if name == "-" {
			continue // a stream has ended when its end was shown
		}
		info, err := os.Stat(c.Path(name))
		if err != nil {
			waits = waits || call.IsDevice(c.Path(name))
			continue // was reported
		}
		files = append(files, &followed{name, info.Size()})
	}
	titles := (len(files) > 1 || options.Has('v')) && !options.Has('q')
	for len(files) > 0 {
		for _, file := range files {
			info, err := os.Stat(c.Path(file.name))
			if err != nil || info.Size() == file.at {
				continue // a file that is gone may come back
			}
			if info.Size() < file.at {
				c.Note("tail: %s: file truncated", file.name)
				file.at = 0
			}
			if titles && file.name != shown {
				title(c, true, file.name)
			}
			shown = file.name
			eachFile(c, file.name, func(source io.Reader) error {
				if _, err := source.(io.Seeker).Seek(file.at, io.SeekStart); err != nil {
					return err
				}
				copied, err := call.Copy(c.Out, source)
				file.at += copied
				return err
			})
		}
		c.Sleep(followInterval)
	}
	for waits {
		c.Sleep(time.Hour)
	}
}

func wc(c *call.Call) int {
	options := c.Options("clmw", call.Long{"bytes": 'c', "lines": 'l', "chars": 'm', "words": 'w'}, 1)
	order := "lwmc"
	chosen := ""
	for _, letter := range order {
		if options.Has(letter) {
			chosen += string(letter)
		}
	}
	if chosen == "" {
		chosen = "lwc"
	}
	total := counts{}
	names := inputs(c.Args)
	for _, name := range names {
		found := counts{}
		eachFile(c, name, func(file io.Reader) error { return found.read(file) })
		total.add(found)
		shown := name
		if len(c.Args) == 0 {
			shown = ""
		}
		found.print(c, chosen, shown)
	}
	if len(names) > 1 {
		total.print(c, chosen, "total")
	}
	return 0
}

type counts struct {
	lines, words, characters, bytes int64
	inWord                          bool
}

func (t *counts) read(file io.Reader) error {
	block := call.Block()
	for {
		n, err := file.Read(block)
		for _, b := range block[:n] {
			if b&0xc0 != 0x80 { // not the rest of a character of UTF-8
				t.characters++
			}
			if b == ' ' || (b >= '\t' && b <= '\r') {
				t.inWord = false
				if b == '\n' {
					t.lines++
				}
			} else if !t.inWord {
				t.inWord = true
				t.words++
			}
		}
		t.bytes += int64(n)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (t *counts) add(other counts) {
	t.lines += other.lines
	t.words += other.words
	t.characters += other.characters
	t.bytes += other.bytes
}

func (t *counts) print(c *call.Call, chosen, name string) {
	var cells []string
	for _, letter := range chosen {
		value := map[rune]int64{'l': t.lines, 'w': t.words, 'm': t.characters, 'c': t.bytes}[letter]
		if len(chosen) == 1 && name == "" {
			cells = append(cells, strconv.FormatInt(value, 10))
			continue
		}
		width := 9
		if len(chosen) == 1 {
			width = 0
		}
		text := strconv.FormatInt(value, 10)
		cells = append(cells, strings.Repeat(" ", max(0, width-len(text)))+text)
	}
	if name != "" {
		cells = append(cells, name)
	}
	c.Print("%s\n", strings.Join(cells, " "))
}
