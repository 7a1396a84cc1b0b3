//go:build snapshot

package main

import (
	"os"
	"runtime"
	"syscall"
)

// wake is where the toolbox begins.
//
// To start Go's runtime and all packages takes longer than most commands do. The build does it once, and makes a
// module of what is then in memory (vkubelet/dev/snapshot.py), which begins here. Until then the program has had no
// arguments, no environment, no files and no time; nothing that is kept from then may depend on any of them.
//
//go:wasmexport wake
func wake() {
	os.Args = runtime.Wake()
	syscall.Wake()
	os.Exit(run(os.Args))
}
