// Package interp is no package of its own: the build puts this file beside mvdan.cc/sh/v3/interp's.
//
// It exists because WASI preview 1 has no pipes: this is the counterpart of that package's stdin_js.go, where
// pipes are in-process as well. These hold what a writer wrote, as a system's do, and tell a writer whose
// reader has gone, so that a loop around `echo` ends with the reader of its pipe.
package interp

import (
	"io"
	"sync"
	"time"
)

// pipeCapacity is Linux's.
const pipeCapacity = 64 << 10

type stdinFile interface {
	io.ReadCloser
	SetReadDeadline(t time.Time) error
}

// reader is a plain reader as standard input; a blocked read ends with the instance only.
type reader struct{ io.Reader }

func (r reader) Close() error {
	if closer, ok := r.Reader.(io.Closer); ok {
		return closer.Close()
	}
	return nil
}

func (reader) SetReadDeadline(time.Time) error { return nil }

// Unwrap is what was given as standard input.
func (r reader) Unwrap() io.Reader { return r.Reader }

func newStdinFile(r io.Reader) (stdinFile, error) {
	switch r := r.(type) {
	case nil:
		return nil, nil
	case stdinFile:
		return r, nil
	default:
		return reader{r}, nil
	}
}

// The shell's terminal is asked for through the host, not here.
func stdinTerminal(stdinFile) (int, bool) { return -1, false }

type pipe struct {
	mutex   sync.Mutex
	changed sync.Cond
	buffer  []byte // what was written and not read
	block   []byte // where buffer has its memory
	written bool   // no more is going to be written
	read    bool   // no more is going to be read
}

func newPipe() (stdinFile, *pipeWriter, error) {
	p := &pipe{}
	p.changed.L = &p.mutex
	return pipeReader{p}, &pipeWriter{p}, nil
}

type pipeReader struct{ *pipe }

func (p pipeReader) Read(data []byte) (int, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	for len(p.buffer) == 0 {
		switch {
		case p.read:
			return 0, io.ErrClosedPipe
		case p.written:
			return 0, io.EOF
		case len(data) == 0:
			return 0, nil
		}
		p.changed.Wait()
	}
	n := copy(data, p.buffer)
	p.buffer = p.buffer[n:]
	p.changed.Broadcast()
	return n, nil
}

func (p pipeReader) Close() error {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.read, p.buffer, p.block = true, nil, nil
	p.changed.Broadcast()
	return nil
}

func (pipeReader) SetReadDeadline(time.Time) error { return nil }

type pipeWriter struct{ *pipe }

func (p *pipeWriter) Write(data []byte) (int, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	done := 0
	for len(data) > 0 {
		if p.read || p.written {
			return done, io.ErrClosedPipe
		}
		if len(p.buffer) == 0 {
			if p.block == nil {
				p.block = make([]byte, 0, pipeCapacity)
			}
			p.buffer = p.block
		}
		room := min(cap(p.buffer)-len(p.buffer), len(data))
		if room == 0 {
			p.changed.Wait()
			continue
		}
		p.buffer = append(p.buffer, data[:room]...)
		data = data[room:]
		done += room
		p.changed.Broadcast()
	}
	return done, nil
}

func (p *pipeWriter) Close() error {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.written = true
	p.changed.Broadcast()
	return nil
}

// Broken tells whether nobody reads any more.
func (p *pipeWriter) Broken() bool {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.read
}
