package agnhost

import (
	"fmt"
	"os"

	"vkubelet.local/toolbox/system"
)

// entryPointTester prints all that the guest was called with.
func entryPointTester([]string) int {
	fmt.Println(os.Args)
	return 0
}

// etcHosts prints what the node tells of names.
func etcHosts([]string) int {
	text, err := os.ReadFile("/etc/hosts")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Print(string(text))
	return 0
}

// noNewPrivileges prints who the guest is; the original is a program that would become root if it could.
func noNewPrivileges([]string) int {
	user, _, _, err := system.Identity()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Printf("Effective uid: %d\n", user)
	return 0
}
