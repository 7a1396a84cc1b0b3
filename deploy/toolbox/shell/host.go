//go:build wasip1

package shell

import (
	"syscall"
	"unsafe"

	"vkubelet.local/toolbox/call"
)

// What the node's launcher gives a guest that has a terminal; both answer an errno.

//go:wasmimport vkubelet_terminal set_raw
func hostSetRaw(raw int32) int32

//go:wasmimport vkubelet_terminal get_size
func hostGetSize(rows, columns unsafe.Pointer) int32

// Terminal is the terminal of the instance's standard files, nil when they are none.
func Terminal() *call.Terminal {
	if _, _, err := terminalSize(); err != nil {
		return nil
	}
	return &call.Terminal{SetRaw: setRaw, Size: terminalSize}
}

func setRaw(raw bool) error {
	var on int32
	if raw {
		on = 1
	}
	return failure(hostSetRaw(on))
}

func terminalSize() (rows, columns int, err error) {
	var lines, width uint32
	err = failure(hostGetSize(unsafe.Pointer(&lines), unsafe.Pointer(&width)))
	return int(lines), int(width), err
}

func failure(number int32) error {
	if number == 0 {
		return nil
	}
	return syscall.Errno(number)
}
