// How a guest of WASI preview 1 exits.
#pragma once
#include "library.h"

// Put `proc_exit` in place of the library's own, which takes no status from 126 on, though it is what a shell ends
// with that finds no command, and every process that is ended by a signal. NULL, or what failed.
const char *exits_define(struct wasmtime_linker *linker);

// Has the guest exited, and with which status, as its parent is told it? It ends by a trap then, which is none. It is
// told once.
bool exits_status(int *status);
