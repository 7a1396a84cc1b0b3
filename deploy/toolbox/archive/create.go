package archive

import (
	stdtar "archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"vkubelet.local/toolbox/call"
)

// packer writes one archive.
type packer struct {
	*job
	out       *stdtar.Writer
	listing   io.Writer
	stripped  bool              // the leading `/` of a member was removed, and it was said
	linked    map[linkID]string // files with several names, by identity: the first that was packed
	archiveID linkID            // the archive itself, which is not packed into itself
}

type linkID struct{ device, inode uint64 }

func (j *job) create() {
	if len(j.Args) == 0 && !j.options.Has('T') {
		j.Die(fatal, "cowardly refusing to create an empty archive")
	}
	if j.options.Has('j') {
		j.Die(fatal, "-j: this tar reads bzip2, but writes only gzip")
	}
	target := j.archiveFile(os.O_WRONLY | os.O_CREATE | os.O_TRUNC)
	p := &packer{job: j, listing: j.Out, linked: map[linkID]string{}}
	if file, ok := target.(*os.File); ok {
		if info, err := file.Stat(); err == nil {
			p.archiveID = identity(info)
		}
	} else if j.options.Value('f', "-") == "-" {
		p.listing = errorListing{j.Call}
	}
	sink := io.Writer(target)
	var compressor *gzip.Writer
	if j.options.Has('z') {
		compressor = gzip.NewWriter(sink)
		sink = compressor
	}
	p.out = stdtar.NewWriter(sink)
	for at, name := range j.Args {
		p.add(j.directoryOf(at), name)
	}
	for _, list := range j.options.Values('T') {
		for _, name := range j.linesOf(list) {
			p.add(j.directory, name)
		}
	}
	err := p.finish()
	if compressor != nil {
		err = errors.Join(err, compressor.Close())
	}
	if err = errors.Join(err, target.Close()); err != nil {
		j.Die(fatal, "cannot write the archive: %s", call.Reason(err))
	}
}

// finish ends the archive. Where something failed and somebody reads at the other end, it has no mark of its end, which
// none needs (POSIX's pax, GNU tar and Go take the stream's): `kubectl cp` leaves at the mark, and would not hear of it.
func (p *packer) finish() error {
	if p.Failed() && p.options.Value('f', "-") == "-" {
		return p.out.Flush()
	}
	return p.out.Close()
}

// errorListing is where -v goes when the archive goes to standard output.
type errorListing struct{ *call.Call }

func (e errorListing) Write(line []byte) (int, error) {
	e.Note("%s", strings.TrimSuffix(string(line), "\n"))
	return len(line), nil
}

func identity(info fs.FileInfo) linkID {
	if found, ok := info.Sys().(*syscall.Stat_t); ok {
		return linkID{found.Dev, found.Ino}
	}
	return linkID{}
}

// add packs a file, and what is below it.
func (p *packer) add(directory, name string) {
	where := name
	if !path.IsAbs(name) {
		where = path.Join(directory, name)
	}
	info, err := p.stat(where)
	if err != nil {
		p.Error("%s: Cannot stat: %s", name, call.Reason(err))
		return
	}
	member := p.member(name)
	if p.patterns.match(member) {
		return
	}
	if info.IsDir() {
		if p.header(where, member+"/", info) == nil {
			return
		}
		entries, err := call.ReadDir(where)
		if err != nil {
			p.Error("%s: Cannot open: %s", name, call.Reason(err))
		}
		for _, entry := range entries {
			p.add(directory, strings.TrimSuffix(name, "/")+"/"+entry.Name())
		}
		return
	}
	if id := identity(info); id == p.archiveID && id != (linkID{}) {
		p.Error("%s: file is the archive; not dumped", name)
		return
	}
	header := p.header(where, member, info)
	if header != nil && header.Typeflag == stdtar.TypeReg {
		p.contents(where, name, header.Size)
	}
}

func (p *packer) stat(where string) (fs.FileInfo, error) {
	if p.options.Has('h') {
		return os.Stat(where)
	}
	return os.Lstat(where)
}

// member is the name in the archive: relative, and not above the place where it will be unpacked.
func (p *packer) member(name string) string {
	clean := path.Clean(name)
	relative := strings.TrimLeft(clean, "/")
	for relative == ".." || strings.HasPrefix(relative, "../") {
		relative = strings.TrimPrefix(strings.TrimPrefix(relative, ".."), "/")
	}
	if relative != clean && !p.stripped {
		p.stripped = true
		p.Note("tar: Removing leading `%s' from member names", clean[:len(clean)-len(relative)])
	}
	if relative == "" {
		return "."
	}
	if strings.HasPrefix(name, "./") && relative != "." {
		return "./" + relative
	}
	return relative
}

// header writes a member's header and returns it, nil if there is none that can be packed.
func (p *packer) header(where, member string, info fs.FileInfo) *stdtar.Header {
	header := &stdtar.Header{
		Name: member, ModTime: info.ModTime(), Uname: "root", Gname: "root", Format: stdtar.FormatGNU, Mode: 0o644,
	}
	switch mode := info.Mode(); {
	case mode.IsDir():
		header.Typeflag, header.Mode = stdtar.TypeDir, 0o755
	case mode&fs.ModeSymlink != 0:
		target, err := os.Readlink(where)
		if err != nil {
			p.Error("%s: Cannot read link: %s", member, call.Reason(err))
			return nil
		}
		header.Typeflag, header.Mode, header.Linkname = stdtar.TypeSymlink, 0o777, target
	case mode.IsRegular():
		header.Typeflag, header.Size = stdtar.TypeReg, info.Size()
		p.hardLink(header, info)
	default:
		p.Error("%s: unknown file type; file ignored", member)
		return nil
	}
	if err := p.out.WriteHeader(header); err != nil {
		p.Error("%s: %s", member, call.Reason(err))
		return nil
	}
	if p.options.Has('v') {
		fmt.Fprintln(p.listing, member)
	}
	return header
}

// hardLink makes a member a link to the file that has been packed under another name.
func (p *packer) hardLink(header *stdtar.Header, info fs.FileInfo) {
	found, ok := info.Sys().(*syscall.Stat_t)
	if !ok || found.Nlink < 2 {
		return
	}
	id := identity(info)
	if first, packed := p.linked[id]; packed {
		header.Typeflag, header.Linkname, header.Size = stdtar.TypeLink, first, 0
	} else {
		p.linked[id] = header.Name
	}
}

// contents writes exactly as much as the header says: a file that shrank meanwhile is padded, as GNU tar does.
func (p *packer) contents(where, name string, size int64) {
	file, err := os.Open(where)
	var copied int64
	if err == nil {
		defer file.Close()
		copied, err = call.CopyBuffer(p.out, io.LimitReader(file, size), p.block)
	}
	if err != nil {
		p.Error("%s: Cannot read: %s", name, call.Reason(err))
	} else if copied < size {
		p.Error("%s: File shrank by %d bytes; padding with zeros", name, size-copied)
	}
	clear(p.block)
	for copied < size {
		n, err := p.out.Write(p.block[:min(int64(len(p.block)), size-copied)])
		if err != nil {
			p.Die(fatal, "cannot write the archive: %s", call.Reason(err))
		}
		copied += int64(n)
	}
}
