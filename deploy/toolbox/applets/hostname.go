package applets

import (
	"os"
	"slices"
	"strings"

	"vkubelet.local/toolbox/call"
)

// hostsFile is where a node tells a pod the names of addresses, its own among them.
const hostsFile = "/etc/hosts"

// hostName is what the pod was told that its host is called.
func hostName(c *call.Call) string {
	if name, set := c.Getenv("HOSTNAME"); set && name != "" {
		return name
	}
	return "localhost"
}

func hostname(c *call.Call) int {
	options := c.Options("dfis", call.Long{"domain": 'd', "fqdn": 'f', "ip-address": 'i', "short": 's'}, 1)
	if len(c.Args) > 0 {
		c.Die(1, "a name cannot be set here")
	}
	name := hostName(c)
	address, full := lookUpHost(name)
	switch options.Last("dfis") {
	case 'd':
		_, name, _ = strings.Cut(full, ".")
	case 'f':
		name = full
	case 'i':
		name = address
		if name == "" {
			c.Die(1, "%s: no address of this name in %s", hostName(c), hostsFile)
		}
	case 's':
		name, _, _ = strings.Cut(name, ".")
	}
	c.Print("%s\n", name)
	return 0
}

// lookUpHost finds the address of a name and the name that comes first for that address: the full one (hosts(5)).
// Without an entry a name is its own.
func lookUpHost(name string) (address, full string) {
	text, err := os.ReadFile(hostsFile)
	if err != nil {
		return "", name // a node need not tell any
	}
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		if fields := strings.Fields(line); len(fields) > 1 && slices.Contains(fields[1:], name) {
			return fields[0], fields[1]
		}
	}
	return "", name
}
