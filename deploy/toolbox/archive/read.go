package archive

import (
	stdtar "archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path"
	"strings"

	"vkubelet.local/toolbox/call"
)

// input is what is read at once of an archive's headers; contents pass it by in larger blocks.
const input = 64 << 10

// read goes through an archive with `use`, then to the input's end, so that who writes it is not cut off.
func (j *job) read(use func(*stdtar.Reader) error) {
	file := j.archiveFile(os.O_RDONLY)
	defer file.Close()
	source := bufio.NewReaderSize(file, input)
	plain, err := j.decompress(source)
	if err == nil {
		err = use(stdtar.NewReader(plain))
	}
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		j.Die(fatal, "Unexpected EOF in archive")
	case errors.Is(err, stdtar.ErrHeader):
		j.Die(fatal, "This does not look like a tar archive")
	case err != nil:
		j.Die(fatal, "cannot read the archive: %s", call.Reason(err))
	}
	if _, err := call.CopyBuffer(io.Discard, source, j.block); err != nil {
		j.Die(fatal, "cannot read the archive: %s", call.Reason(err))
	}
}

// decompress takes off gzip or bzip2, whether or not it was asked for.
func (j *job) decompress(source *bufio.Reader) (io.Reader, error) {
	magic, err := source.Peek(3)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case len(magic) == 0:
		j.Die(fatal, "This does not look like a tar archive")
	case bytes.HasPrefix(magic, []byte("\x1f\x8b")):
		return gzip.NewReader(source)
	case bytes.Equal(magic, []byte("BZh")):
		return bzip2.NewReader(source), nil
	}
	return source, nil
}

// list shows the members.
func (j *job) list(archive *stdtar.Reader) error {
	return j.members(archive, func(header *stdtar.Header) {
		if !j.options.Has('v') {
			j.Print("%s\n", header.Name)
			return
		}
		info := header.FileInfo()
		mode := info.Mode().String()
		if header.Typeflag == stdtar.TypeSymlink {
			mode = "l" + mode[1:]
		}
		name := header.Name
		switch header.Typeflag {
		case stdtar.TypeSymlink:
			name += " -> " + header.Linkname
		case stdtar.TypeLink:
			mode = "h" + mode[1:]
			name += " link to " + header.Linkname
		}
		j.Print("%s %s/%s %9d %s %s\n", mode, owner(header.Uname, header.Uid), owner(header.Gname, header.Gid),
			header.Size, header.ModTime.UTC().Format("2006-01-02 15:04"), name)
	})
}

// members calls `use` for each member that is wanted, and reports those that were named but not there.
func (j *job) members(archive *stdtar.Reader, use func(*stdtar.Header)) error {
	missing := map[string]bool{}
	wanted := make([]string, 0, len(j.Args))
	for _, name := range append(j.Args[:len(j.Args):len(j.Args)], j.listed()...) {
		name = strings.TrimSuffix(name, "/")
		missing[name] = true
		wanted = append(wanted, name)
	}
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		name := strings.TrimSuffix(header.Name, "/")
		chosen := len(wanted) == 0
		for _, want := range wanted {
			matched, _ := path.Match(want, name) // a pattern that is none matches as a name
			if matched || name == want || strings.HasPrefix(name, want+"/") {
				chosen, missing[want] = true, false
			}
		}
		if chosen && !j.patterns.match(header.Name) {
			use(header)
		}
	}
	for _, want := range wanted {
		if missing[want] {
			j.Error("%s: Not found in archive", want)
		}
	}
	return nil
}

func (j *job) listed() []string {
	var names []string
	for _, list := range j.options.Values('T') {
		names = append(names, j.linesOf(list)...)
	}
	return names
}
