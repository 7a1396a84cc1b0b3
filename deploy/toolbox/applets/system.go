package applets

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"vkubelet.local/toolbox/call"
)

// containersFile is where a node tells a pod of its containers.
const containersFile = "/.vkubelet/pod/containers.json"

func env(c *call.Call) int {
	options := c.Options("+i0u:", call.Long{"ignore-environment": 'i', "null": '0', "unset": 'u'}, 125)
	variables := c.Env
	if options.Has('i') {
		variables = nil
	}
	for _, name := range options.Values('u') {
		variables = without(variables, name)
	}
	args := c.Args
	for len(args) > 0 && strings.Contains(args[0], "=") {
		name, _, _ := strings.Cut(args[0], "=")
		variables = append(without(variables, name), args[0])
		args = args[1:]
	}
	if len(args) > 0 {
		c.Env = variables
		return c.Exec(c, args)
	}
	end := "\n"
	if options.Has('0') {
		end = "\x00"
	}
	for _, variable := range variables {
		c.Print("%s%s", variable, end)
	}
	return 0
}

func without(variables []string, name string) []string {
	var kept []string
	for _, variable := range variables {
		if !strings.HasPrefix(variable, name+"=") {
			kept = append(kept, variable)
		}
	}
	return kept
}

func printenv(c *call.Call) int {
	c.Options("", nil, 1)
	if len(c.Args) == 0 {
		for _, variable := range c.Env {
			c.Print("%s\n", variable)
		}
	}
	status := 0
	for _, name := range c.Args {
		if value, set := c.Getenv(name); set {
			c.Print("%s\n", value)
		} else {
			status = 1
		}
	}
	return status
}

func sleep(c *call.Call) int {
	c.Options("", nil, 1)
	c.Operands(1, -1)
	units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}
	var total time.Duration
	for _, text := range c.Args {
		unit, digits := time.Second, text
		if text != "" {
			if found, ok := units[text[len(text)-1]]; ok {
				unit, digits = found, text[:len(text)-1]
			}
		}
		number, err := strconv.ParseFloat(digits, 64)
		if err != nil || number < 0 || number != number {
			c.Die(1, "invalid number '%s'", text)
		}
		total += time.Duration(min(number*float64(unit), float64(1<<62)))
	}
	c.Sleep(total)
	return 0
}

func uname(c *call.Call) int {
	const all = "snrvm"
	options := c.Options("asnrvmpio", nil, 1)
	parts := map[rune]string{'s': "WASI", 'n': hostName(c), 'r': "0.1", 'v': "preview1", 'm': "wasm32", 'p': "wasm32", 'i': "wasm32", 'o': "WASI"}
	chosen := ""
	for _, letter := range all + "pio" {
		if options.Has(letter) {
			chosen += string(letter)
		}
	}
	if options.Has('a') {
		chosen = all
	}
	if chosen == "" {
		chosen = "s"
	}
	var words []string
	for _, letter := range chosen {
		words = append(words, parts[letter])
	}
	c.Print("%s\n", strings.Join(words, " "))
	return 0
}

// container is what the node tells of one.
type container struct {
	Container string    `json:"container"`
	State     string    `json:"state"`
	PID       int       `json:"pid"`
	StartedAt time.Time `json:"started_at"`
	Restarts  int       `json:"restarts"`
	Command   []string  `json:"command"`
}

// ps shows the pod's containers: an instance sees no processes.
func ps(c *call.Call) int {
	text, err := os.ReadFile(containersFile)
	if errors.Is(err, fs.ErrNotExist) {
		c.Die(1, "only a node tells an instance of its pod's containers (no %s)", containersFile)
	}
	var containers []container
	if err == nil {
		err = json.Unmarshal(text, &containers)
	}
	if err != nil {
		c.Die(1, "%s: %s", containersFile, call.Reason(err))
	}
	rows := [][]string{{"PID", "CONTAINER", "STATE", "RESTARTS", "AGE", "COMMAND"}}
	for _, found := range containers {
		rows = append(rows, []string{
			strconv.Itoa(found.PID), found.Container, found.State, strconv.Itoa(found.Restarts),
			age(time.Since(found.StartedAt)), strings.Join(found.Command, " "),
		})
	}
	align(c, rows)
	return 0
}

// age is a time span in one or two units, as kubectl shows it.
func age(span time.Duration) string {
	seconds := int64(max(0, span) / time.Second)
	switch {
	case seconds < 120:
		return strconv.FormatInt(seconds, 10) + "s"
	case seconds < 2*3600:
		return strconv.FormatInt(seconds/60, 10) + "m"
	case seconds < 2*86400:
		return strconv.FormatInt(seconds/3600, 10) + "h"
	}
	return strconv.FormatInt(seconds/86400, 10) + "d"
}

func kill(c *call.Call) int {
	c.Die(1, "an instance can signal nothing: WASI has no signals (kubectl delete pod ends a pod)")
	return 1
}

func umask(c *call.Call) int {
	c.Die(1, "WASI has no permissions to mask")
	return 1
}

func clearScreen(c *call.Call) int {
	c.Print("\x1b[H\x1b[2J\x1b[3J")
	return 0
}

func which(c *call.Call) int {
	options := c.Options("a", nil, 1)
	c.Operands(1, -1)
	search, _ := c.Getenv("PATH")
	status := 0
	for _, name := range c.Args {
		found := false
		if !strings.Contains(name, "/") && c.Known(name) {
			c.Print("%s: applet of the toolbox\n", name)
			found = true
		}
		for directory := range strings.SplitSeq(search, ":") {
			if found && !options.Has('a') {
				break
			}
			where := c.Path(path.Join(directory, name))
			if strings.Contains(name, "/") {
				where = c.Path(name)
			}
			if info, err := os.Stat(where); err == nil && info.Mode().IsRegular() {
				c.Print("%s\n", where)
				found = true
			}
			if strings.Contains(name, "/") {
				break
			}
		}
		if !found {
			status = 1
		}
	}
	return status
}
