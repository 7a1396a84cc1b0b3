package applets

import (
	"bufio"
	stdgzip "compress/gzip"
	"errors"
	"io"
	"os"
	"strings"

	"vkubelet.local/toolbox/call"
)

func gzip(c *call.Call) int {
	options := c.Options("cdfknqtv123456789", call.Long{
		"stdout": 'c', "decompress": 'd', "uncompress": 'd', "force": 'f', "keep": 'k', "best": '9', "fast": '1', "test": 't',
	}, 1)
	level := 6
	if digit := options.Last("123456789"); digit != 0 {
		level = int(digit - '0')
	}
	decompress := options.Has('d') || options.Has('t') || c.Name != "gzip"
	toStdout := options.Has('c') || options.Has('t') || c.Name == "zcat"
	for _, name := range inputs(c.Args) {
		g := gzipped{c, level, decompress, options.Has('t')}
		if name == "-" || toStdout {
			eachFile(c, name, func(file io.Reader) error { return g.pass(c.Out, file) })
		} else {
			g.replace(name, options)
		}
	}
	return 0
}

type gzipped struct {
	*call.Call
	level      int
	decompress bool
	test       bool
}

// pass compresses or decompresses a stream.
func (g gzipped) pass(out io.Writer, file io.Reader) error {
	if !g.decompress {
		writer, err := stdgzip.NewWriterLevel(out, g.level)
		if err != nil {
			return err
		}
		_, err = call.Copy(writer, file)
		return errors.Join(err, writer.Close())
	}
	reader, err := stdgzip.NewReader(bufio.NewReaderSize(file, 64<<10))
	if errors.Is(err, stdgzip.ErrHeader) {
		return errors.New("not in gzip format")
	}
	if err != nil {
		return err
	}
	if g.test {
		out = io.Discard
	}
	_, err = call.Copy(out, reader)
	return err
}

// replace puts the result in the file's place under the name that tells what it is.
func (g gzipped) replace(name string, options *call.Options) {
	target, hadSuffix := strings.CutSuffix(name, ".gz")
	if !hadSuffix && strings.HasSuffix(name, ".tgz") {
		target, hadSuffix = strings.TrimSuffix(name, ".tgz")+".tar", true
	}
	switch {
	case g.decompress && !hadSuffix:
		g.Error("%s: unknown suffix - ignored", name)
		return
	case !g.decompress && hadSuffix && !options.Has('f'):
		g.Error("%s already has .gz suffix - unchanged", name)
		return
	case !g.decompress:
		target = name + ".gz"
	}
	if info, err := os.Lstat(g.Path(name)); err != nil {
		g.Fail(name, err)
		return
	} else if !info.Mode().IsRegular() {
		g.Error("%s is not a regular file - ignored", name)
		return
	}
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if options.Has('f') {
		flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	file, err := os.OpenFile(g.Path(target), flags, 0o644)
	if err != nil {
		g.Fail(target, err)
		return
	}
	whole := eachFile(g.Call, name, func(source io.Reader) error { return g.pass(file, source) })
	if err := file.Close(); err != nil {
		g.Fail(target, err)
		whole = false
	}
	doomed := name
	if !whole {
		doomed = target // half of a result is none
	} else if options.Has('k') {
		return
	}
	if err := os.Remove(g.Path(doomed)); err != nil {
		g.Fail(doomed, err)
	}
}
