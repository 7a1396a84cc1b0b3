// The toolbox gives a pod a shell and the everyday commands, as one WASI preview 1 module.
//
// It exists because the image of a WebAssembly container has neither. As with busybox, the name that it is
// called by picks the applet, or else its first argument; without one it is the shell.
package main

import (
	"context"
	"fmt"
	"os"
	"path"

	"vkubelet.local/toolbox/applets"
	"vkubelet.local/toolbox/archive"
	"vkubelet.local/toolbox/call"
	"vkubelet.local/toolbox/shell"
)

// name is what the toolbox itself is called.
const name = "toolbox"

// box has all applets.
var box = shell.New(applets.All, archive.Applets)

func main() {
	os.Exit(run(os.Args))
}

func run(args []string) int {
	if len(args) > 0 && (path.Base(args[0]) == name || box.Applet(path.Base(args[0])) == nil) {
		args = args[1:]
		if len(args) > 0 && args[0] == "--list" {
			for _, applet := range box.Names() {
				fmt.Println(applet)
			}
			return 0
		}
	}
	if len(args) == 0 {
		args = []string{shell.Name}
	}
	applet := box.Applet(path.Base(args[0]))
	if applet == nil {
		fmt.Fprintf(os.Stderr, "%s: %s: applet not found\n", name, args[0])
		return 127
	}
	directory, err := os.Getwd()
	if err != nil {
		directory = "/"
	}
	files := call.Files{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Terminal: shell.Terminal()}
	return box.Run(context.Background(), applet, args, directory, os.Environ(), files)
}
