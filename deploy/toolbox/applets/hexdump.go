package applets

import (
	"bytes"
	"io"
	"strconv"

	"vkubelet.local/toolbox/call"
)

// hexdumpWidth is how many bytes a line shows.
const hexdumpWidth = 16

// hexdump shows bytes in hexadecimal; lines like the one before are one asterisk.
func hexdump(c *call.Call) int {
	options := c.Options("Cvn:s:", nil, 1)
	skip := hexdumpNumber(c, options, 's')
	most := int64(-1)
	if options.Has('n') {
		most = hexdumpNumber(c, options, 'n')
	}
	var all bytes.Buffer
	for _, name := range inputsOr(c.Args, "-") {
		file, err := c.Open(name)
		if err != nil {
			c.Fail(name, err)
			continue
		}
		_, err = io.Copy(&all, file)
		file.Close()
		if err != nil {
			c.Fail(name, err)
		}
	}
	data := all.Bytes()
	data = data[min(skip, int64(len(data))):]
	if most >= 0 {
		data = data[:min(most, int64(len(data)))]
	}
	var before []byte
	starred := false
	for at := 0; at < len(data); at += hexdumpWidth {
		line := data[at:min(at+hexdumpWidth, len(data))]
		if !options.Has('v') && len(line) == hexdumpWidth && bytes.Equal(line, before) {
			if !starred {
				c.Print("*\n")
			}
			starred = true
			continue
		}
		before, starred = line, false
		if options.Has('C') {
			canonicalLine(c, skip+int64(at), line)
		} else {
			wordsLine(c, skip+int64(at), line)
		}
	}
	if len(data) > 0 {
		width := 7
		if options.Has('C') {
			width = 8
		}
		c.Print("%0*x\n", width, skip+int64(len(data)))
	}
	return 0
}

func hexdumpNumber(c *call.Call, options *call.Options, letter rune) int64 {
	number, err := strconv.ParseInt(options.Value(letter, "0"), 0, 64)
	if err != nil || number < 0 {
		c.Die(1, "-%c: invalid number '%s'", letter, options.Value(letter, ""))
	}
	return number
}

// canonicalLine shows bytes one by one, and as text.
func canonicalLine(c *call.Call, at int64, line []byte) {
	c.Print("%08x ", at)
	text := make([]byte, 0, hexdumpWidth)
	for i := range hexdumpWidth {
		if i%8 == 0 {
			c.Print(" ")
		}
		if i >= len(line) {
			c.Print("   ")
			continue
		}
		c.Print("%02x ", line[i])
		shown := line[i]
		if shown < ' ' || shown > '~' {
			shown = '.'
		}
		text = append(text, shown)
	}
	c.Print(" |%s|\n", text)
}

// wordsLine shows two bytes together, as a number of a little-endian machine.
func wordsLine(c *call.Call, at int64, line []byte) {
	c.Print("%07x", at)
	for i := 0; i < hexdumpWidth; i += 2 {
		if i >= len(line) {
			c.Print("     ")
			continue
		}
		word := int(line[i])
		if i+1 < len(line) {
			word |= int(line[i+1]) << 8
		}
		c.Print(" %04x", word)
	}
	c.Print("\n")
}
