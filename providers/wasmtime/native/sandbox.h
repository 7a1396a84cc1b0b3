// What a container's process gives up before the guest's first instruction: WebAssembly is the first wall, and this
// is the second.
//
// It has no namespace of mounts, of processes or of the network: what they would hide, Landlock and the filter of
// system calls keep out of reach for less. A mount namespace without a root of its own hides nothing, and one with it
// costs a mount for each directory; the first process of a namespace takes no SIGPIPE and no Ctrl-C; a network
// namespace costs a start 0.35 ms, where a process without the network can make no socket at all. Nor has it a limit of
// its address space: the engine reserves gigabytes for each memory that it never touches.
#pragma once
#include "landlock.h"
#include "spec.h"
#include <stdio.h>

// Find out, once, what of it this host allows, and enter already what its children inherit. NULL, or what failed.
const char *sandbox_find(void);

// Tell it: for each part a line with its name, or `-`, its name and why this host does not allow it.
void sandbox_tell(FILE *out);

// Enter all of it that this host allows, as whom the spec says, with `reach` to what is open already. Only the calling
// thread is sure to be in it: it must be the only one. NULL, or the name of the part that failed, with the cause in
// errno.
const char *sandbox_enter(const struct spec *spec, const struct reach *reach, size_t count);
