package applets

import (
	"crypto/md5"  //nolint:gosec // what md5sum is asked for
	"crypto/sha1" //nolint:gosec // what sha1sum is asked for
	"crypto/sha256"
	"crypto/sha512"
	stdbase64 "encoding/base64"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"strings"

	"vkubelet.local/toolbox/call"
)

var hashes = map[string]func() hash.Hash{
	"md5sum": md5.New, "sha1sum": sha1.New, "sha256sum": sha256.New, "sha512sum": sha512.New,
}

func sum(c *call.Call) int {
	options := c.Options("cbtsw", call.Long{"check": 'c', "binary": 'b', "text": 't', "status": 's', "warn": 'w'}, 1)
	for _, name := range inputs(c.Args) {
		if options.Has('c') {
			checkSums(c, options, name)
			continue
		}
		if digest, err := digestOf(c, name); err != nil {
			c.Fail(name, err)
		} else {
			c.Print("%s  %s\n", digest, name)
		}
	}
	return 0
}

func digestOf(c *call.Call, name string) (string, error) {
	file, err := c.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	digest := hashes[c.Name]()
	if _, err := call.Copy(digest, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(digest.Sum(nil)), nil
}

func checkSums(c *call.Call, options *call.Options, list string) {
	failed, malformed, checked := 0, 0, 0
	eachLine(c, []string{list}, func(line string) bool {
		digest, name, ok := strings.Cut(line, " ")
		if !ok || len(name) < 2 {
			malformed++
			return true
		}
		name = name[1:] // a blank, or the star of a binary file
		checked++
		found, err := digestOf(c, name)
		switch {
		case err != nil:
			c.Fail(name, err)
			failed++
		case !strings.EqualFold(found, digest):
			failed++
			if !options.Has('s') {
				c.Print("%s: FAILED\n", name)
			}
		case !options.Has('s'):
			c.Print("%s: OK\n", name)
		}
		return true
	})
	if checked == 0 {
		c.Error("%s: no properly formatted checksum lines found", list)
	} else if malformed > 0 && options.Has('w') {
		c.Note("%s: WARNING: %d lines are improperly formatted", c.Name, malformed)
	}
	if failed > 0 {
		c.Error("WARNING: %d of %d computed checksums did NOT match", failed, checked)
	}
}

func base64(c *call.Call) int {
	options := c.Options("diw:", call.Long{"decode": 'd', "wrap": 'w', "ignore-garbage": 'i'}, 1)
	c.Operands(0, 1)
	width := c.Number(options, 'w', 76, 0)
	eachFile(c, inputs(c.Args)[0], func(file io.Reader) error {
		if options.Has('d') {
			decoder := stdbase64.NewDecoder(stdbase64.StdEncoding, cleaned{file, options.Has('i')})
			_, err := call.Copy(c.Out, decoder)
			if corrupt, ok := errors.AsType[stdbase64.CorruptInputError](err); ok {
				c.Die(1, "invalid input at byte %d", int64(corrupt))
			}
			if errors.Is(err, io.ErrUnexpectedEOF) {
				c.Die(1, "truncated input")
			}
			return err
		}
		folded := &folder{out: c.Out, width: width}
		encoder := stdbase64.NewEncoder(stdbase64.StdEncoding, folded)
		if _, err := call.Copy(encoder, file); err != nil {
			return err
		}
		if err := encoder.Close(); err != nil {
			return err
		}
		if folded.column > 0 && width > 0 {
			c.Print("\n")
		}
		return nil
	})
	return 0
}

// cleaned leaves out white space, and with `all` everything else that base64 does not have.
type cleaned struct {
	io.Reader
	all bool
}

func (r cleaned) Read(data []byte) (int, error) {
	n, err := r.Reader.Read(data)
	kept := 0
	for _, b := range data[:n] {
		garbage := r.all && !isAlpha(b) && !isDigit(b) && b != '+' && b != '/' && b != '='
		if !garbage && b != ' ' && b != '\t' && b != '\r' && b != '\n' {
			data[kept] = b
			kept++
		}
	}
	return kept, err
}

// folder breaks what is written into lines.
type folder struct {
	out           io.Writer
	width, column int
}

func (f *folder) Write(data []byte) (int, error) {
	written := len(data)
	if f.width == 0 {
		return f.out.Write(data)
	}
	for len(data) > 0 {
		n := min(f.width-f.column, len(data))
		f.out.Write(data[:n])
		data = data[n:]
		f.column += n
		if f.column == f.width {
			f.out.Write([]byte("\n"))
			f.column = 0
		}
	}
	return written, nil
}
