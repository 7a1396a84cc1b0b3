package applets

import (
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"vkubelet.local/toolbox/call"
	"vkubelet.local/toolbox/system"
)

// kinds are the first letter of a mode, by the kind of file.
var kinds = map[uint32]byte{
	0o140000: 's', 0o120000: 'l', 0o100000: '-', 0o060000: 'b', system.Directory: 'd', 0o020000: 'c', 0o010000: 'p',
}

// symbolic is a mode as `ls -l` shows it.
func symbolic(mode uint32) string {
	letters := []byte("?rwxrwxrwx")
	if kind, known := kinds[mode&system.KindMask]; known {
		letters[0] = kind
	}
	for bit := range 9 {
		if mode&(1<<(8-bit)) == 0 {
			letters[1+bit] = '-'
		}
	}
	for _, special := range []struct {
		bit       uint32
		at        int
		with, not byte
	}{{system.SetUser, 3, 's', 'S'}, {system.SetGroup, 6, 's', 'S'}, {system.Sticky, 9, 't', 'T'}} {
		switch {
		case mode&special.bit == 0:
		case letters[special.at] == 'x':
			letters[special.at] = special.with
		default:
			letters[special.at] = special.not
		}
	}
	return string(letters)
}

// userName is what a user or group is called: a container has no list of names, but root is root everywhere.
func userName(id uint32) string {
	if id == 0 {
		return "root"
	}
	return strconv.FormatUint(uint64(id), 10)
}

func chmod(c *call.Call) int {
	// A mode may begin with a minus, which is no option then.
	recursive := false
	for len(c.Args) > 0 && (c.Args[0] == "-R" || c.Args[0] == "--recursive") {
		recursive, c.Args = true, c.Args[1:]
	}
	if len(c.Args) > 0 && c.Args[0] == "--" {
		c.Args = c.Args[1:]
	}
	c.Operands(2, -1)
	change, ok := parseMode(c.Args[0])
	if !ok {
		c.Die(1, "invalid mode '%s'", c.Args[0])
	}
	for _, name := range c.Args[1:] {
		if !recursive {
			setMode(c, name, c.Path(name), change)
			continue
		}
		err := filepath.WalkDir(c.Path(name), func(where string, entry fs.DirEntry, err error) error {
			shown := name + strings.TrimPrefix(where, c.Path(name))
			if err != nil {
				c.Fail(shown, err)
			} else if entry.Type()&fs.ModeSymlink == 0 {
				setMode(c, shown, where, change)
			}
			return nil
		})
		if err != nil {
			c.Fail(name, err)
		}
	}
	return 0
}

// modeChange makes a new mode of the one that a file has.
type modeChange func(mode uint32) uint32

func setMode(c *call.Call, shown, where string, change modeChange) {
	found, err := system.Stat(where)
	if err == nil {
		err = system.Chmod(where, change(found.Mode)&^system.KindMask)
	}
	if err != nil {
		c.Fail(shown, err)
	}
}

// parseMode reads an octal mode, or changes like u+x,go-w.
func parseMode(text string) (modeChange, bool) {
	if mode, err := strconv.ParseUint(text, 8, 12); err == nil {
		return func(uint32) uint32 { return uint32(mode) }, true
	}
	var changes []modeChange
	for clause := range strings.SplitSeq(text, ",") {
		at := strings.IndexAny(clause, "+-=")
		if at < 0 {
			return nil, false
		}
		who, allowed, known := whose(clause[:at])
		if !known {
			return nil, false
		}
		for rest := clause[at:]; rest != ""; {
			operator := rest[0]
			end := strings.IndexAny(rest[1:], "+-=") + 1
			if end == 0 {
				end = len(rest)
			}
			letters := rest[1:end]
			if strings.Trim(letters, "rwxXt") != "" {
				return nil, false
			}
			changes = append(changes, func(mode uint32) uint32 { return applied(mode, who, allowed, operator, letters) })
			rest = rest[end:]
		}
	}
	return func(mode uint32) uint32 {
		for _, change := range changes {
			mode = change(mode)
		}
		return mode
	}, true
}

// masked are the permissions that no change gives or takes which says nobody's: the umask of every container.
const masked = 0o022

// whose are the permissions that letters of `ugoa` mean, and those of them that may change.
func whose(letters string) (mask, allowed uint32, known bool) {
	masks := map[rune]uint32{'u': 0o700, 'g': 0o070, 'o': 0o007, 'a': system.Permissions}
	for _, letter := range letters {
		if masks[letter] == 0 {
			return 0, 0, false
		}
		mask |= masks[letter]
	}
	if mask == 0 {
		return system.Permissions, system.Permissions &^ masked, true
	}
	return mask, mask, true
}

func applied(mode, who, allowed uint32, operator byte, letters string) uint32 {
	bits := map[rune]uint32{'r': 0o444, 'w': 0o222, 'x': 0o111}
	if mode&system.KindMask == system.Directory || mode&0o111 != 0 {
		bits['X'] = 0o111
	}
	var chosen uint32
	for _, letter := range letters {
		chosen |= bits[letter] & allowed
		if letter == 't' {
			chosen |= system.Sticky
		}
	}
	switch operator {
	case '+':
		return mode | chosen
	case '-':
		return mode &^ chosen
	}
	return mode&^who | chosen
}

func id(c *call.Call) int {
	options := c.Options("gGnu", call.Long{"user": 'u', "group": 'g', "groups": 'G', "name": 'n'}, 1)
	user, group, more := identity(c)
	groups := []uint32{group}
	for _, other := range more {
		if other != group {
			groups = append(groups, other)
		}
	}
	shown := func(id uint32) string {
		if options.Has('n') {
			return userName(id)
		}
		return strconv.FormatUint(uint64(id), 10)
	}
	switch options.Last("gGu") {
	case 'u':
		c.Print("%s\n", shown(user))
	case 'g':
		c.Print("%s\n", shown(group))
	case 'G':
		c.Print("%s\n", idList(groups, " ", shown))
	default:
		if options.Has('n') {
			c.Die(1, "-n needs one of -g, -G and -u")
		}
		c.Print("uid=%s gid=%s groups=%s\n", withName(user), withName(group), idList(groups, ",", withName))
	}
	return 0
}

func idList(ids []uint32, separator string, shown func(uint32) string) string {
	words := make([]string, 0, len(ids))
	for _, id := range ids {
		words = append(words, shown(id))
	}
	return strings.Join(words, separator)
}

// withName is a number as id shows it: with its name where it has one.
func withName(id uint32) string {
	number := strconv.FormatUint(uint64(id), 10)
	if name := userName(id); name != number {
		return number + "(" + name + ")"
	}
	return number
}

func whoami(c *call.Call) int {
	user, _, _ := identity(c)
	if user != 0 {
		c.Die(1, "unknown uid %d", user)
	}
	c.Print("%s\n", userName(user))
	return 0
}

func identity(c *call.Call) (user, group uint32, groups []uint32) {
	user, group, groups, err := system.Identity()
	if err != nil {
		c.Die(1, "who this is cannot be told: %s", call.Reason(err))
	}
	return user, group, groups
}
