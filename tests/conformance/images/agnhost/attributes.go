package agnhost

import (
	"errors"
	"io/fs"
	"os"
)

// errNoAttributes says what WASI preview 1 lacks.
var errNoAttributes = errors.New("WASI has no owners, permissions or types of file systems")

// attributes are what a system knows of a file beside its content.
type attributes struct {
	mode     fs.FileMode
	uid, gid uint32
}

func inspect(path string) (attributes, error) {
	if _, err := os.Stat(path); err != nil {
		return attributes{}, err
	}
	return attributes{}, errNoAttributes
}

func fileSystemType(path string) (string, error) {
	if _, err := os.Stat(path); err != nil {
		return "", err
	}
	return "", errNoAttributes
}

func writeFile(path string, content []byte, mode fs.FileMode) error {
	return os.WriteFile(path, content, mode)
}
