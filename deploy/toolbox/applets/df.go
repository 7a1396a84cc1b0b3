package applets

import (
	"os"
	"slices"
	"strconv"

	"vkubelet.local/toolbox/call"
	"vkubelet.local/toolbox/system"
)

// tmpfs is the type of a file system in memory, as statfs(2) numbers it: the only one that people look for by name.
const tmpfs = 0x01021994

// df shows how much room there is in the directories that an instance was given: they are its mounts.
func df(c *call.Call) int {
	options := c.Options("hkmPT", call.Long{"human-readable": 'h', "portability": 'P', "print-type": 'T'}, 1)
	unit := uint64(1 << 10)
	titles := []string{"Filesystem", "1K-blocks", "Used", "Available", "Use%", "Mounted on"}
	switch options.Last("hkm") {
	case 'h':
		unit, titles[1] = 0, "Size"
	case 'm':
		unit, titles[1] = 1<<20, "1M-blocks"
	}
	if options.Has('P') {
		titles[4] = "Capacity"
	}
	lines := [][]string{titles}
	for _, place := range places(c) {
		line, err := spaceLine(place, unit)
		if err != nil {
			c.Fail(place, err)
			continue
		}
		lines = append(lines, line)
	}
	if options.Has('T') {
		for at, line := range lines {
			kind := "Type"
			if at > 0 {
				kind = line[0]
			}
			lines[at] = slices.Insert(slices.Clone(line), 1, kind)
		}
	}
	printTable(c, lines)
	return 0
}

// places are the directories that are shown: all, or those in which what was named is.
func places(c *call.Call) []string {
	all := system.Directories()
	if len(c.Args) == 0 {
		slices.Sort(all)
		return slices.Compact(all)
	}
	var found []string
	for _, name := range c.Args {
		where := c.Path(name)
		if _, err := os.Stat(where); err != nil {
			c.Fail(name, err)
			continue
		}
		best := "/"
		for _, place := range all {
			if isWithin(where, place) && len(place) > len(best) {
				best = place
			}
		}
		found = append(found, best)
	}
	return found
}

func isWithin(name, directory string) bool {
	return name == directory || (len(name) > len(directory) && name[:len(directory)+1] == directory+"/")
}

func spaceLine(place string, unit uint64) ([]string, error) {
	kind, err := system.Stat(place)
	if err != nil {
		return nil, err
	}
	space, err := system.SpaceOf(place)
	if err != nil {
		return nil, err
	}
	name := "wasi"
	if kind.FileSystem == tmpfs {
		name = "tmpfs"
	}
	used := space.Total - space.Free
	share := "-"
	if all := used + space.Available; all > 0 {
		share = strconv.FormatUint((100*used+all-1)/all, 10) + "%"
	}
	shown := func(size uint64) string {
		if unit == 0 {
			return human(int64(size))
		}
		return strconv.FormatUint((size+unit-1)/unit, 10)
	}
	return []string{name, shown(space.Total), shown(used), shown(space.Available), share, place}, nil
}

// printTable aligns the columns: names to the left, numbers to the right.
func printTable(c *call.Call, lines [][]string) {
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for at, text := range line {
			widths[at] = max(widths[at], len(text))
		}
	}
	last := len(widths) - 1
	for _, line := range lines {
		for at, text := range line {
			switch {
			case at == last:
				c.Print("%s\n", text)
			case at == 0 || (last > 5 && at == 1):
				c.Print("%-*s ", widths[at], text)
			default:
				c.Print("%*s ", widths[at], text)
			}
		}
	}
}
