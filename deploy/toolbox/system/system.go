//go:build wasip1

// Package system is what a node tells a guest beyond WASI: modes and owners of files, and who the guest is.
//
// It exists because WASI preview 1 has none of it. It must not know how any of it is shown.
package system

import (
	"io/fs"
	"path"
	"syscall"
	"unsafe"
)

//go:wasmimport vkubelet_system attributes
func hostAttributes(path unsafe.Pointer, length uint32, follow uint32, result unsafe.Pointer) uint32

//go:wasmimport vkubelet_system space
func hostSpace(path unsafe.Pointer, length uint32, result unsafe.Pointer) uint32

//go:wasmimport wasi_snapshot_preview1 fd_prestat_get
func prestatGet(fd int32, result unsafe.Pointer) uint32

//go:wasmimport wasi_snapshot_preview1 fd_prestat_dir_name
func prestatDirectoryName(fd int32, name unsafe.Pointer, length uint32) uint32

//go:wasmimport vkubelet_system set_mode
func hostSetMode(path unsafe.Pointer, length uint32, mode uint32) uint32

//go:wasmimport vkubelet_system identity
func hostIdentity(ids unsafe.Pointer, capacity uint32, count unsafe.Pointer) uint32

// Bits of a mode, as Linux has them (inode(7)).
const (
	KindMask    = 0o170000
	Directory   = 0o040000
	SetUser     = 0o4000
	SetGroup    = 0o2000
	Sticky      = 0o1000
	Permissions = 0o777
)

// Attributes are what a system knows of a file. FileSystem is the type of what it is on, as statfs(2) numbers it.
type Attributes struct {
	Mode, User, Group, FileSystem uint32
}

// Stat asks for the attributes of an absolute path, and of a symbolic link's target.
func Stat(name string) (Attributes, error) { return attributes("stat", name, 1) }

// Lstat asks for those of a symbolic link itself.
func Lstat(name string) (Attributes, error) { return attributes("lstat", name, 0) }

func attributes(operation, name string, follow uint32) (found Attributes, err error) {
	clean := path.Clean(name)
	failed := hostAttributes(unsafe.Pointer(unsafe.StringData(clean)), uint32(len(clean)), follow, unsafe.Pointer(&found))
	return found, failure(operation, name, failed)
}

// Space is what a file system has room for, in bytes: all of it, what is free, and what of that anybody may use.
type Space struct {
	Total, Free, Available uint64
}

// SpaceOf asks for that of the file system on which an absolute path is.
func SpaceOf(name string) (found Space, err error) {
	clean := path.Clean(name)
	failed := hostSpace(unsafe.Pointer(unsafe.StringData(clean)), uint32(len(clean)), unsafe.Pointer(&found))
	return found, failure("statfs", name, failed)
}

// firstPreopen is the descriptor after the standard files, from which on a guest is given its directories.
const firstPreopen = 3

// Directories are the places of those that the guest was given: all that it can see is in one of them.
func Directories() []string {
	var found []string
	for fd := int32(firstPreopen); ; fd++ {
		var prestat struct{ kind, length uint32 }
		if prestatGet(fd, unsafe.Pointer(&prestat)) != 0 {
			return found
		}
		name := make([]byte, prestat.length)
		if prestatDirectoryName(fd, unsafe.Pointer(unsafe.SliceData(name)), prestat.length) == 0 {
			found = append(found, path.Clean(string(name)))
		}
	}
}

// Chmod sets the permissions of what an absolute path names.
func Chmod(name string, mode uint32) error {
	clean := path.Clean(name)
	return failure("chmod", name, hostSetMode(unsafe.Pointer(unsafe.StringData(clean)), uint32(len(clean)), mode))
}

// Identity is who the guest's process is: its user, its group, and its supplementary groups.
func Identity() (user, group uint32, groups []uint32, err error) {
	ids := make([]uint32, 64)
	for {
		var count uint32
		failed := hostIdentity(unsafe.Pointer(&ids[0]), uint32(len(ids)), unsafe.Pointer(&count))
		if err := failure("identity", "/", failed); err != nil {
			return 0, 0, nil, err
		}
		if int(count) <= len(ids) {
			return ids[0], ids[1], ids[2:count], nil
		}
		ids = make([]uint32, count)
	}
}

func failure(operation, name string, number uint32) error {
	if number == 0 {
		return nil
	}
	return &fs.PathError{Op: operation, Path: name, Err: syscall.Errno(number)}
}
