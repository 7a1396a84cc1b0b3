// Package applets are the everyday commands, each as users of busybox and the GNU tools know it.
//
// Options that would do nothing in an instance of WebAssembly are refused, not ignored.
package applets

import "vkubelet.local/toolbox/call"

// All are the applets of this package.
var All = []*call.Applet{
	{Name: "cat", Usage: "[-nu] [FILE...]", Run: cat},
	{Name: "ls", Usage: "[-1AacdFhilnrRStu] [FILE...]", Run: ls},
}
