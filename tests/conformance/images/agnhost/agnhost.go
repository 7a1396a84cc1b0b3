// Package agnhost has those commands of the image agnhost that a guest can have, with its options and output.
//
// What they print is read by the suite's specs. It must not know which spec asks for what.
package agnhost

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// misused is the status of a command that was called wrongly.
const misused = 2

var commands = map[string]func(args []string) int{
	"entrypoint-tester":    entryPointTester,
	"etc-hosts":            etcHosts,
	"fake-registry-server": fakeRegistryServer,
	"mounttest":            mountTest,
	"nonewprivs":           noNewPrivileges,
	"pause":                pause,
}

// Run is the program with its arguments, its own name first; it returns the exit status.
func Run(args []string) int {
	if len(args) < 2 {
		fmt.Fprintf(os.Stderr, "usage: %s COMMAND, one of %s\n", args[0], known())
		return misused
	}
	command, found := commands[args[1]]
	if !found {
		fmt.Fprintf(os.Stderr, "%s: a guest has no command %q, but %s\n", args[0], args[1], known())
		return misused
	}
	return command(args[2:])
}

func known() string {
	return strings.Join(slices.Sorted(maps.Keys(commands)), ", ")
}
