package applets

import (
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"vkubelet.local/toolbox/call"
	"vkubelet.local/toolbox/system"
)

const statFormat = "  File: %N\n  Size: %-10s\t%F\nDevice: %Dh\tInode: %-10i  Links: %h\n" +
	"Access: (%04a/%A)  Uid: (%5u/%8U)   Gid: (%5g/%8G)\nAccess: %x\nModify: %y\nChange: %z"

func stat(c *call.Call) int {
	options := c.Options("Lc:", call.Long{"dereference": 'L', "format": 'c'}, 1)
	c.Operands(1, -1)
	for _, name := range c.Args {
		look, ask := os.Lstat, system.Lstat
		if options.Has('L') {
			look, ask = os.Stat, system.Stat
		}
		info, err := look(c.Path(name))
		var owned system.Attributes
		if err == nil {
			owned, err = ask(c.Path(name))
		}
		if err != nil {
			c.Error("can't stat '%s': %s", name, call.Reason(err))
			continue
		}
		c.Print("%s\n", describe(c, name, info, owned, options.Value('c', statFormat)))
	}
	return 0
}

// describe fills a format of stat; a letter may have a width, as printf's.
func describe(c *call.Call, name string, info fs.FileInfo, owned system.Attributes, format string) string {
	var out strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			out.WriteByte(format[i])
			continue
		}
		end := i + 1
		for end < len(format)-1 && (format[end] == '-' || isDigit(format[end])) {
			end++
		}
		fmt.Fprintf(&out, "%"+format[i+1:end]+"s", detail(c, name, info, owned, format[end]))
		i = end
	}
	return out.String()
}

func detail(c *call.Call, name string, info fs.FileInfo, owned system.Attributes, letter byte) string {
	sys := statOf(info)
	switch letter {
	case '%':
		return "%"
	case 'n':
		return name
	case 'N':
		if target, err := os.Readlink(c.Path(name)); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			return name + " -> " + target
		}
		return name
	case 's':
		return strconv.FormatInt(info.Size(), 10)
	case 'F':
		return kindOf(info)
	case 'd':
		return strconv.FormatUint(sys.Dev, 10)
	case 'D':
		return strconv.FormatUint(sys.Dev, 16)
	case 'i':
		return strconv.FormatUint(sys.Ino, 10)
	case 'h':
		return strconv.FormatUint(links(info), 10)
	case 'a':
		return strconv.FormatUint(uint64(owned.Mode&^system.KindMask), 8)
	case 'A':
		return symbolic(owned.Mode)
	case 'u':
		return strconv.FormatUint(uint64(owned.User), 10)
	case 'g':
		return strconv.FormatUint(uint64(owned.Group), 10)
	case 'U':
		return userName(owned.User)
	case 'G':
		return userName(owned.Group)
	case 'x':
		return longTime(accessed(info))
	case 'y':
		return longTime(info.ModTime())
	case 'z':
		return longTime(changed(info))
	case 'X':
		return strconv.FormatInt(accessed(info).Unix(), 10)
	case 'Y':
		return strconv.FormatInt(info.ModTime().Unix(), 10)
	case 'Z':
		return strconv.FormatInt(changed(info).Unix(), 10)
	}
	return "%" + string(letter)
}

func kindOf(info fs.FileInfo) string {
	switch mode := info.Mode(); {
	case mode.IsDir():
		return "directory"
	case mode&fs.ModeSymlink != 0:
		return "symbolic link"
	case mode&fs.ModeCharDevice != 0:
		return "character special file"
	case mode&fs.ModeDevice != 0:
		return "block special file"
	case mode&fs.ModeSocket != 0:
		return "socket"
	case info.Size() == 0:
		return "regular empty file"
	}
	return "regular file"
}

func longTime(at time.Time) string { return at.UTC().Format("2006-01-02 15:04:05.000000000 -0700") }
