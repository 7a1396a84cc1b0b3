package shell

import (
	"context"
	"fmt"
	"io"
	"strings"

	"mvdan.cc/sh/v3/interp"

	"vkubelet.local/toolbox/call"
)

// lookup is what `command -v` and `type` become: the interpreter knows no applet. No file can be called so.
const lookup = "\x00lookup"

// lookUp tells what commands are: their names or paths (`-v`), or sentences (`-V`).
func (b *Box) lookUp(ctx context.Context, context interp.HandlerContext, how string, names []string) error {
	missing := 0
	for _, name := range names {
		if strings.HasPrefix(name, lookup) || !b.describe(ctx, context, how, name) {
			missing = notFound
		}
	}
	return status(missing)
}

func (b *Box) describe(ctx context.Context, context interp.HandlerContext, how, name string) bool {
	if applet := b.named(name); applet != nil && !interp.IsBuiltin(name) {
		if how == "-V" {
			fmt.Fprintf(context.Stdout, "%s is an applet of the toolbox\n", name)
		} else {
			fmt.Fprintln(context.Stdout, name)
		}
		return true
	}
	files := call.Files{Stdout: context.Stdout, Stderr: io.Discard}
	inner := b.call(ctx, b.applets[Name], []string{Name}, context.Dir, exported(context.Env), files)
	if file := find(inner, name); file != "" && !interp.IsBuiltin(name) {
		if how == "-V" {
			fmt.Fprintf(context.Stdout, "%s is %s\n", name, file)
		} else {
			fmt.Fprintln(context.Stdout, file)
		}
		return true
	}
	if how == "-V" {
		return context.Builtin(ctx, []string{"type", name}) == nil
	}
	return context.Builtin(ctx, []string{"command", "-v", name}) == nil
}
