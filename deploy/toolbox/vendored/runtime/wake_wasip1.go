// Package runtime is no package of its own: the build puts this file beside those of Go's runtime.
//
// It exists because the toolbox is an image of a program that has already begun (see wake.go): what the runtime
// found out about its instance then has to be found out again.
package runtime

// Wake finds out what differs from instance to instance: arguments, environment, and what is random. It gives the
// arguments.
func Wake() []string {
	goenvs()
	globalRand.init = false
	randinit()
	mrandinit(getg().m)
	return argslice
}
