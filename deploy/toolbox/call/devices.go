package call

import (
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
)

// File is an open file, or one of the devices that every container is expected to have.
type File interface {
	io.Reader
	io.Writer
	io.Closer
}

// Open opens a file for reading, by a name relative to the call's directory; "-" is standard input.
func (c *Call) Open(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(c.Stdin), nil
	}
	return OpenFile(c.Path(name), os.O_RDONLY, 0, c.Files())
}

// IsDevice tells whether an absolute path names one of the devices that are given.
func IsDevice(name string) bool {
	switch path.Clean(name) {
	case "/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/dev/stdin", "/dev/stdout", "/dev/stderr":
		return true
	}
	return false
}

// OpenFile opens the absolute path, as os.OpenFile. A container's root has no /dev: these are given in its place.
func OpenFile(name string, flag int, mode os.FileMode, files Files) (File, error) {
	switch path.Clean(name) {
	case "/dev/null":
		return device{Reader: eof{}, Writer: io.Discard}, nil
	case "/dev/zero":
		return device{Reader: zeros{}, Writer: io.Discard}, nil
	case "/dev/random", "/dev/urandom":
		return device{Reader: rand.Reader, Writer: io.Discard}, nil
	case "/dev/stdin":
		return device{Reader: files.Stdin, Writer: io.Discard}, nil
	case "/dev/stdout":
		return device{Reader: eof{}, Writer: files.Stdout}, nil
	case "/dev/stderr":
		return device{Reader: eof{}, Writer: files.Stderr}, nil
	}
	file, err := os.OpenFile(name, flag, mode)
	if errors.Is(err, syscall.EPERM) && flag&(os.O_WRONLY|os.O_RDWR|os.O_CREATE) != 0 {
		// What the host says of a directory that a guest may only read.
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EROFS}
	}
	if err != nil {
		return nil, err
	}
	// WASI opens a directory, and says nonsense when it is read.
	if info, err := file.Stat(); err == nil && info.IsDir() {
		file.Close()
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EISDIR}
	}
	return file, nil
}

type device struct {
	io.Reader
	io.Writer
}

func (device) Close() error { return nil }

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

type zeros struct{}

func (zeros) Read(data []byte) (int, error) {
	clear(data)
	return len(data), nil
}
