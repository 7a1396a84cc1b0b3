// Package shell is the toolbox's shell: it finds and runs commands, reads scripts, and talks to a person.
//
// The language is mvdan.cc/sh's; this package gives it what WASI lacks: commands that run inside the instance,
// a working directory of its own, the devices in /dev, and a line editor. It must not know what an applet does.
package shell

import (
	"context"
	"slices"

	"vkubelet.local/toolbox/call"
)

// Box is the set of applets, which the shell is one of.
type Box struct {
	applets map[string]*call.Applet
}

// New makes a box of these applets and the shell's own.
func New(groups ...[]*call.Applet) *Box {
	box := &Box{applets: map[string]*call.Applet{}}
	for _, group := range append(groups, box.own()) {
		for _, applet := range group {
			box.applets[applet.Name] = applet
		}
	}
	return box
}

// Applet is the applet of that name, or nil.
func (b *Box) Applet(name string) *call.Applet { return b.applets[name] }

// Names are those of all applets, sorted.
func (b *Box) Names() []string {
	names := make([]string, 0, len(b.applets))
	for name := range b.applets {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Run runs an applet and returns its exit status.
func (b *Box) Run(
	ctx context.Context, applet *call.Applet, args []string, dir string, env []string, files call.Files,
) int {
	return b.call(ctx, applet, args, dir, env, files).Main()
}

func (b *Box) call(
	ctx context.Context, applet *call.Applet, args []string, dir string, env []string, files call.Files,
) *call.Call {
	c := call.New(ctx, applet, args, dir, env, files)
	c.Exec = b.execute
	c.Known = func(name string) bool { return b.Applet(name) != nil }
	return c
}
