package agnhost

import (
	"io/fs"
	"os"
	"strconv"

	"vkubelet.local/toolbox/system"
)

// fileSystems are the names that agnhost has for the types of statfs(2); it shows any other as a number.
var fileSystems = map[uint32]string{0x01021994: "tmpfs"}

// attributes are what a system knows of a file beside its content.
type attributes struct {
	mode     fs.FileMode
	uid, gid uint32
}

func inspect(path string) (attributes, error) {
	info, err := os.Stat(path)
	if err != nil {
		return attributes{}, err
	}
	found, err := system.Stat(path)
	if err != nil {
		return attributes{}, err
	}
	mode := info.Mode().Type() | fs.FileMode(found.Mode&system.Permissions)
	for bit, flag := range map[uint32]fs.FileMode{
		system.SetUser: fs.ModeSetuid, system.SetGroup: fs.ModeSetgid, system.Sticky: fs.ModeSticky,
	} {
		if found.Mode&bit != 0 {
			mode |= flag
		}
	}
	return attributes{mode: mode, uid: found.User, gid: found.Group}, nil
}

func fileSystemType(path string) (string, error) {
	if _, err := os.Stat(path); err != nil {
		return "", err
	}
	found, err := system.Stat(path)
	if err != nil {
		return "", err
	}
	if name, known := fileSystems[found.FileSystem]; known {
		return name, nil
	}
	return strconv.FormatUint(uint64(found.FileSystem), 10), nil
}

// writeFile makes a file with exactly this mode: WASI makes all with the same.
func writeFile(path string, content []byte, mode fs.FileMode) error {
	if err := os.WriteFile(path, content, mode); err != nil {
		return err
	}
	return system.Chmod(path, uint32(mode.Perm()))
}
