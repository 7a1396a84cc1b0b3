package applets

import (
	"bufio"
	"os"
	"strings"

	"vkubelet.local/toolbox/call"
)

// mountsFile is where Linux tells of what is mounted; a node makes it for containers that have limits.
const mountsFile = "/proc/mounts"

var unescapeMount = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// mount shows what is mounted. There is nothing that an instance could mount.
func mount(c *call.Call) int {
	options := c.Options("t:", call.Long{"types": 't'}, 1)
	if len(c.Args) > 0 {
		c.Misused(1, "an instance of WebAssembly can mount nothing")
	}
	file, err := os.Open(mountsFile)
	if err != nil {
		c.Die(1, "%v", err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || !wantedType(options.Values('t'), fields[2]) {
			continue
		}
		c.Print("%s on %s type %s (%s)\n", unescapeMount.Replace(fields[0]), unescapeMount.Replace(fields[1]), fields[2], fields[3])
	}
	if err := lines.Err(); err != nil {
		c.Die(1, "%v", err)
	}
	return 0
}

func wantedType(lists []string, kind string) bool {
	if len(lists) == 0 {
		return true
	}
	for _, list := range lists {
		for _, wanted := range strings.Split(list, ",") {
			if wanted == kind {
				return true
			}
		}
	}
	return false
}
