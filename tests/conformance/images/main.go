// The guest that stands in for the images of Kubernetes' e2e suite: agnhost's commands, and the toolbox's.
//
// It exists because those images are Linux programs beside a shell, in one file system. Here all of it is one
// module, and the name that it is called by picks the program, as with busybox. It must not know the suite.
package main

import (
	"context"
	"fmt"
	"os"
	"path"
	"strings"

	"vkubelet.local/conformance/agnhost"
	"vkubelet.local/toolbox/applets"
	"vkubelet.local/toolbox/archive"
	"vkubelet.local/toolbox/call"
	"vkubelet.local/toolbox/shell"
	"vkubelet.local/toolbox/system"
)

func main() {
	makeFiles()
	os.Exit(run(os.Args))
}

// makeFiles makes what an image's files would be, of which a module has none: specs write to /tmp. Where the root
// directory is somebody else's or cannot be written to, there is nothing to make.
func makeFiles() {
	if os.Mkdir("/tmp", 0o777) == nil {
		if err := system.Chmod("/tmp", system.Sticky|system.Permissions); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

func run(args []string) int {
	name := path.Base(args[0])
	// The suite tells by `agnhost-2`, a second name in the image, that a command replaces the image's.
	if name == "agnhost" || strings.HasPrefix(name, "agnhost-") {
		return agnhost.Run(args)
	}
	box := shell.New(applets.All, archive.Applets)
	applet := box.Applet(name)
	if applet == nil && name == "bash" {
		applet, args = box.Applet(shell.Name), append([]string{shell.Name}, args[1:]...)
	}
	if applet == nil {
		fmt.Fprintf(os.Stderr, "%s: not found\n", args[0])
		return 127
	}
	directory, err := os.Getwd()
	if err != nil {
		directory = "/"
	}
	files := call.Files{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Terminal: shell.Terminal()}
	return box.Run(context.Background(), applet, args, directory, os.Environ(), files)
}
