package agnhost

import (
	"flag"
	"fmt"
	"os"
	"time"
)

// written is what a new file gets.
const written = "mount-tester new file\n"

// attemptEvery is the pause between two looks at a file that is read again and again.
const attemptEvery = 2 * time.Second

// mountTest writes and reads files of a volume and prints what it finds, in the order of the suite's own.
func mountTest(args []string) int {
	flags := flag.NewFlagSet("mounttest", flag.ExitOnError)
	kind := flags.String("fs_type", "", "print the type of the file system that this is on")
	create := map[os.FileMode]*string{}
	for _, mode := range []os.FileMode{0o644, 0o666, 0o660, 0o777} {
		create[mode] = flags.String(fmt.Sprintf("new_file_%04o", mode), "", "write this file with the mode, and read it")
	}
	mode := flags.String("file_mode", "", "print the mode of this file")
	permissions := flags.String("file_perm", "", "print the permissions of this file")
	owner := flags.String("file_owner", "", "print the owner of this file")
	content := flags.String("file_content", "", "print the content of this file")
	followed := flags.String("file_content_in_loop", "", "print the content of this file again and again")
	seconds := flags.Int("retry_time", 180, "seconds that --file_content_in_loop takes")
	stop := flags.Bool("break_on_expected_content", true, "end --file_content_in_loop with a new file's content")
	flags.Parse(args) //nolint:errcheck // it ends the process

	failed := false
	attempt := func(path string, do func(path string) error) {
		if path != "" && do(path) != nil {
			failed = true
		}
	}
	attempt(*kind, fileSystem)
	for _, mode := range []os.FileMode{0o644, 0o666, 0o660, 0o777} {
		attempt(*create[mode], func(path string) error { return writeNew(path, mode) })
	}
	attempt(*mode, func(path string) error {
		return describe(path, func(info attributes) { fmt.Printf("mode of file %q: %v\n", path, info.mode) })
	})
	attempt(*permissions, func(path string) error {
		return describe(path, func(info attributes) { fmt.Printf("perms of file %q: %v\n", path, info.mode.Perm()) })
	})
	attempt(*owner, func(path string) error {
		return describe(path, func(info attributes) {
			fmt.Printf("owner UID of %q: %d\nowner GID of %q: %d\n", path, info.uid, path, info.gid)
		})
	})
	attempt(*content, printContent)
	attempt(*followed, func(path string) error {
		return follow(path, time.Duration(*seconds)*time.Second, *stop)
	})
	if failed {
		return 1
	}
	return 0
}

func writeNew(path string, mode os.FileMode) error {
	if err := writeFile(path, []byte(written), mode); err != nil {
		fmt.Printf("error writing new file %q: %v\n", path, err)
		return err
	}
	return printContent(path)
}

func printContent(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		fmt.Printf("error reading file content for %q: %v\n", path, err)
		return err
	}
	fmt.Printf("content of file %q: %s\n", path, content)
	return nil
}

// follow returns how the last attempt to read the file went.
func follow(path string, long time.Duration, stop bool) (err error) {
	for begin := time.Now(); time.Since(begin) < long; time.Sleep(attemptEvery) {
		var content []byte
		content, err = os.ReadFile(path)
		if err != nil {
			fmt.Printf("Error reading file %s: %v, retrying\n", path, err)
			continue
		}
		fmt.Printf("content of file %q: %s\n", path, content)
		if stop && string(content) == written {
			return nil
		}
	}
	return err
}

func describe(path string, tell func(attributes)) error {
	info, err := inspect(path)
	if err != nil {
		fmt.Printf("error from stat(%q): %v\n", path, err)
		return err
	}
	tell(info)
	return nil
}

func fileSystem(path string) error {
	kind, err := fileSystemType(path)
	if err != nil {
		fmt.Printf("error from statfs(%q): %v\n", path, err)
		return err
	}
	fmt.Printf("mount type of %q: %s\n", path, kind)
	return nil
}
