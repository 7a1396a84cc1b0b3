// What of the host's files a container's process can open, with the kernel's Landlock: what it was given, by where it
// is, whatever its user may do elsewhere.
#pragma once
#include <stdbool.h>
#include <stddef.h>

// A directory that is open, or a file, and what may be done with all below it: no file there can be executed, and no
// device or socket made.
struct reach {
    int file;
    bool writable;
};

// The version of Landlock that this kernel has; 0 for none.
int landlock_version(void);

// Let the calling thread, and those that it makes, open nothing else; where the kernel can, connect to no TCP port
// unless it may use the network, and reach no abstract socket and signal no process. Needs no_new_privs. -1 with the
// cause in errno: version 1 is refused, with which no file can be moved from one directory to another.
int landlock_enter(const struct reach *reach, size_t count, bool network);
