module vkubelet.local/conformance

go 1.26.0

require vkubelet.local/toolbox v0.0.0

require (
	golang.org/x/sys v0.50.0 // indirect
	golang.org/x/term v0.48.0 // indirect
	mvdan.cc/sh/v3 v3.14.1 // indirect
)

replace vkubelet.local/toolbox => ../../../deploy/toolbox
