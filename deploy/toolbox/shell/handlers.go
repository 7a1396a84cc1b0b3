package shell

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"

	"vkubelet.local/toolbox/call"
)

// defaultPath is where commands are looked for when nobody says.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// replaced are builtins that the interpreter knows by name only, and ours: what they become is an applet.
var replaced = map[string]bool{"kill": true, "umask": true, "ulimit": true}

// runner is an interpreter for one shell.
func (b *Box) runner(c *call.Call, options []string, params []string) (*interp.Runner, error) {
	env := c.Env
	for name, value := range map[string]string{"PATH": defaultPath, "HOME": "/"} {
		if _, set := c.Getenv(name); !set {
			env = append(env[:len(env):len(env)], name+"="+value)
		}
	}
	files := c.Files()
	return interp.New(
		interp.Dir(c.Dir),
		interp.Env(expand.ListEnviron(env...)),
		interp.StdIO(files.Stdin, files.Stdout, files.Stderr),
		interp.CallHandler(intercept),
		interp.ExecHandlers(func(interp.ExecHandlerFunc) interp.ExecHandlerFunc {
			return func(ctx context.Context, args []string) error { return b.exec(ctx, c, args) }
		}),
		interp.OpenHandler(opener(c.Called)),
		interp.StatHandler(stat),
		interp.AccessHandler(access),
		interp.Params(append(options, append([]string{"--"}, params...)...)...),
	)
}

// intercept sees every simple command before it runs.
//
// A builtin does not look at whether its output was written: when nobody reads it any more, the subshell that
// writes it ends here, as SIGPIPE would end it.
func intercept(ctx context.Context, args []string) ([]string, error) {
	switch name := args[0]; {
	case name == "echo" || name == "printf":
		output, isPipe := interp.HandlerCtx(ctx).Stdout.(interface{ Broken() bool })
		if isPipe && output.Broken() {
			return []string{"exit", "141"}, nil
		}
		if name == "printf" && (len(args) < 2 || args[1] != "-v") {
			return append([]string{"/bin/printf"}, args[1:]...), nil // the builtin's knows few formats
		}
	case name == "command" && len(args) > 2 && (args[1] == "-v" || args[1] == "-V"):
		return append([]string{lookup}, args[1:]...), nil
	case name == "type" && len(args) > 1 && args[1][:min(1, len(args[1]))] != "-":
		return append([]string{lookup, "-V"}, args[1:]...), nil
	case replaced[name]:
		return append([]string{"/bin/" + name}, args[1:]...), nil
	}
	return args, nil
}

// exec runs what is neither a function nor a builtin.
func (b *Box) exec(ctx context.Context, shell *call.Call, args []string) error {
	context := interp.HandlerCtx(ctx)
	if args[0] == lookup {
		return b.lookUp(ctx, context, args[1], args[2:])
	}
	files := call.Files{Stdin: unwrap(context.Stdin), Stdout: context.Stdout, Stderr: context.Stderr}
	if context.Stdout == shell.Files().Stdout {
		files.Terminal = shell.Terminal
	}
	inner := b.call(ctx, shell.Applet, []string{Name}, context.Dir, exported(context.Env), files)
	return status(b.execute(inner, args))
}

func status(code int) error {
	if code == 0 {
		return nil
	}
	return interp.ExitStatus(code)
}

// unwrap gives an applet the file itself, where the interpreter has put something around it.
func unwrap(stdin io.Reader) io.Reader {
	if wrapped, ok := stdin.(interface{ Unwrap() io.Reader }); ok {
		return wrapped.Unwrap()
	}
	return stdin
}

func exported(env expand.Environ) []string {
	var list []string
	env.Each(func(name string, value expand.Variable) bool {
		if value.Exported && value.IsSet() && value.Kind == expand.String {
			list = append(list, name+"="+value.Str)
		}
		return true
	})
	return list
}

// opener opens what redirections name, and complains as the shell that is called so.
func opener(shell string) interp.OpenHandlerFunc {
	return func(ctx context.Context, name string, flag int, mode os.FileMode) (io.ReadWriteCloser, error) {
		context := interp.HandlerCtx(ctx)
		where := name
		if name != "" && !path.IsAbs(name) {
			where = path.Join(context.Dir, name)
		}
		files := call.Files{Stdin: context.Stdin, Stdout: context.Stdout, Stderr: context.Stderr}
		file, err := call.OpenFile(where, flag, mode, files)
		if err == nil {
			return file, nil
		}
		what := shell + ": can't open"
		if flag&os.O_CREATE != 0 {
			what = shell + ": can't create"
		}
		// The interpreter shows errors of this type, and gives up at any other.
		return nil, &fs.PathError{Op: what, Path: name, Err: err.(*fs.PathError).Err} //nolint:errorlint
	}
}

// stat knows the devices too.
func stat(_ context.Context, name string, follow bool) (fs.FileInfo, error) {
	if follow {
		return os.Stat(name)
	}
	return os.Lstat(name)
}

// access tells what exists from what does not: WASI has no permissions to ask for.
func access(_ context.Context, name string, _ interp.AccessMode) error {
	_, err := os.Stat(name)
	return err
}
