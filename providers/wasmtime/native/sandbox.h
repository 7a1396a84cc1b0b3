// What a container's process gives up before the guest's first instruction: WebAssembly is the first wall, and this
// is the second.
//
// It has no limit of its address space: the engine reserves gigabytes for each memory that it never touches.
#pragma once
#include "landlock.h"
#include "spec.h"
#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

// Find out, once, what of it this host allows, and enter already what its children inherit. NULL, or what failed.
const char *sandbox_find(void);

// Whether containers are born as the first process of a namespace.
bool sandbox_is_alone(void);

// Whom files take this process for, once it is in the sandbox.
uid_t sandbox_user(void);

// Tell it: for each part a line with its name, or `-`, its name and why this host does not allow it.
void sandbox_tell(FILE *out);

// Enter all of it that this host allows, as whom the spec says, with `reach` to what is open already. Only the calling
// thread is sure to be in it: it must be the only one. NULL, or the name of the part that failed, with the cause in
// errno.
const char *sandbox_enter(const struct spec *spec, const struct reach *reach, size_t count);
