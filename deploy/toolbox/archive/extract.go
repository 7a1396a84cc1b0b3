package archive

import (
	stdtar "archive/tar"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"vkubelet.local/toolbox/call"
)

// extractor unpacks. Nothing that an archive says leads out of the directory that it is unpacked into: a name
// with `..` in it is refused, a leading `/` removed, a file is never written through a link that is in its
// place, and a link that points upwards is made when all else has been written.
type extractor struct {
	*job
	archive *stdtar.Reader
	strip   int
	said    bool
	later   []link
	touched []touched // directories, whose times are set when all that is in them is there
	failure error
}

type link struct{ member, target string }

type touched struct {
	path string
	time time.Time
}

func (e *extractor) all(archive *stdtar.Reader) error {
	e.archive = archive
	e.strip = e.Number(e.options, stripComponents, 0, 0)
	if info, err := os.Stat(e.directory); err != nil || !info.IsDir() {
		if err == nil {
			err = errors.New("Not a directory")
		}
		e.Die(fatal, "%s: Cannot open: %s", e.directory, call.Reason(err))
	}
	err := e.members(archive, e.member)
	err = errors.Join(e.failure, err)
	for _, link := range e.later {
		e.report(link.member, e.symlink(link))
	}
	for _, directory := range slices.Backward(e.touched) {
		e.report(directory.path, os.Chtimes(directory.path, directory.time, directory.time))
	}
	return err
}

func (e *extractor) report(name string, err error) {
	if err != nil {
		e.Error("%s: %s", name, call.Reason(err))
	}
}

// member unpacks one member.
func (e *extractor) member(header *stdtar.Header) {
	name, ok := e.inside(header.Name)
	if !ok || e.failure != nil {
		return
	}
	if e.options.Has('O') {
		if header.Typeflag == stdtar.TypeReg {
			e.stream(e.Out, header)
		}
		return
	}
	if e.options.Has('v') {
		e.Print("%s\n", header.Name)
	}
	where := path.Join(e.directory, name)
	e.later = slices.DeleteFunc(e.later, func(l link) bool { return l.member == name })
	if err := e.parents(name); err != nil {
		e.report(name, err)
		return
	}
	switch header.Typeflag {
	case stdtar.TypeReg, stdtar.TypeGNUSparse:
		e.file(where, header)
	case stdtar.TypeDir:
		e.report(name, e.makeDirectory(where, header))
	case stdtar.TypeSymlink:
		l := link{name, header.Linkname}
		if path.IsAbs(l.target) || slices.Contains(strings.Split(l.target, "/"), "..") {
			e.later = append(e.later, l)
			return
		}
		e.report(name, e.symlink(l))
	case stdtar.TypeLink:
		if target, ok := e.inside(header.Linkname); ok {
			e.report(name, e.hardLink(where, target))
		}
	default:
		e.Error("%s: a member of type %q cannot be made in WASI", name, header.Typeflag)
	}
}

// inside is a member's name relative to the directory, if it does not lead out of it.
func (e *extractor) inside(name string) (string, bool) {
	if slices.Contains(strings.Split(name, "/"), "..") {
		e.Error("%s: Member name contains '..'", name)
		return "", false
	}
	relative := strings.TrimLeft(name, "/")
	if relative != name && !e.said {
		e.said = true
		e.Note("tar: Removing leading `/' from member names")
	}
	parts := strings.Split(path.Clean(relative), "/")
	if len(parts) <= e.strip {
		return "", false
	}
	return path.Join(parts[e.strip:]...), true
}

// parents makes the directories above a member. A link that this archive has still to make is none of them.
func (e *extractor) parents(name string) error {
	directory := path.Dir(name)
	if directory == "." {
		return nil
	}
	for _, link := range e.later {
		if directory == link.member || strings.HasPrefix(directory, link.member+"/") {
			return errors.New("Not a directory")
		}
	}
	return os.MkdirAll(path.Join(e.directory, directory), 0o755)
}

// clear removes what is in a member's place, unless it is to be kept.
func (e *extractor) clear(where string) error {
	if e.options.Has('k') {
		return nil // making it fails then, as GNU tar's -k
	}
	err := os.Remove(where)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (e *extractor) file(where string, header *stdtar.Header) {
	err := e.clear(where)
	var file *os.File
	if err == nil {
		// Never through a link: what is there now is not ours.
		file, err = os.OpenFile(where, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	}
	if err != nil {
		e.Error("%s: Cannot open: %s", header.Name, call.Reason(err))
		return
	}
	e.stream(file, header)
	e.report(header.Name, file.Close())
	if !e.options.Has('m') {
		e.report(header.Name, os.Chtimes(where, header.ModTime, header.ModTime))
	}
}

// stream copies a member's contents. What cannot be read ends the archive; what cannot be written, the member.
func (e *extractor) stream(target io.Writer, header *stdtar.Header) {
	source := &source{reader: e.archive}
	_, err := call.CopyBuffer(target, source, e.block)
	if source.failure != nil {
		e.failure = source.failure
	} else if err != nil {
		e.Error("%s: Cannot write: %s", header.Name, call.Reason(err))
	}
}

// source remembers that it was the reading that failed.
type source struct {
	reader  io.Reader
	failure error
}

func (s *source) Read(data []byte) (int, error) {
	n, err := s.reader.Read(data)
	if err != nil && !errors.Is(err, io.EOF) {
		s.failure = err
	}
	return n, err
}

func (e *extractor) makeDirectory(where string, header *stdtar.Header) error {
	info, err := os.Lstat(where)
	if err == nil && !info.IsDir() {
		err = e.clear(where)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(where, 0o755); err != nil {
		return err
	}
	if !e.options.Has('m') && where != e.directory {
		e.touched = append(e.touched, touched{where, header.ModTime})
	}
	return nil
}

func (e *extractor) symlink(l link) error {
	where := path.Join(e.directory, l.member)
	if err := e.clear(where); err != nil {
		return err
	}
	err := os.Symlink(l.target, where)
	if err != nil && path.IsAbs(l.target) {
		return errors.New("WASI makes no link to the absolute path " + l.target)
	}
	return err
}

func (e *extractor) hardLink(where, target string) error {
	if err := e.parents(target); err != nil {
		return err
	}
	if err := e.clear(where); err != nil {
		return err
	}
	return os.Link(path.Join(e.directory, target), where)
}

func owner(name string, id int) string {
	if name != "" {
		return name
	}
	return strconv.Itoa(id)
}
