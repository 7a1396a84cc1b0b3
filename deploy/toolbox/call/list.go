package call

import (
	"errors"
	"io/fs"
	"os"
)

// listings are how often a directory is listed in which something is being removed.
const listings = 100

// ReadDir lists a directory, by its absolute path. The host looks at each entry as it lists them, and the whole
// listing fails for one that was removed in between: then the directory is listed again.
func ReadDir(where string) ([]fs.DirEntry, error) {
	for left := listings; ; left-- {
		entries, err := os.ReadDir(where)
		if !errors.Is(err, fs.ErrNotExist) || left == 0 {
			return entries, err
		}
		if _, gone := os.Lstat(where); gone != nil {
			return entries, err
		}
	}
}
