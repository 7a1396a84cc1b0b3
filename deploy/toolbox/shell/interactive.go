package shell

import (
	"mvdan.cc/sh/v3/interp"

	"vkubelet.local/toolbox/call"
)

func (b *Box) interactive(c *call.Call, runner *interp.Runner) int {
	return b.lines(c, runner, c.Files().Stdin, true)
}
