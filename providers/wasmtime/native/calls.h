// The system calls that a container's process may make, for the filter that is made of them.
#pragma once
#include <stddef.h>

// On what it depends whether a call is allowed.
enum check {
    NEVER,
    YOUNG, // never too, but it fails as on a kernel that does not have it
    ANY,
    THREAD,    // a new thread, and no process or namespace
    OWN,       // a signal to the process itself
    NAME,      // of a thread or a mapping
    TERMINAL,  // what is asked of terminals, and whether it waits
    DUPLICATE, // a descriptor, and its flags
    NO_CODE,   // no memory that can be executed
    LIBRARY,   // the same, but for files: the C library loads those that look names up
    LOOK,      // at one's own limit
    FAMILY,    // the internet, and what addresses the machine has
    LAST_CHECK = FAMILY,
};

enum when { ALWAYS, NETWORK };

struct call {
    unsigned number;
    enum check check;
    enum when when;
};

extern const struct call calls[];
extern const size_t call_count;
