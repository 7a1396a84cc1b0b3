// Which system calls a container's process may make: what wasmtime and our own code ask of the kernel while a guest
// runs, as it was measured, and nothing else.
//
// What is not allowed fails as if the kernel refused it: with ENOSYS where it is younger than Linux 5.1 or not known
// here, so that libraries do as on an older kernel, else with EPERM. A call by the numbers of another architecture ends
// the process.
#pragma once
#include <stdbool.h>

// Make the filters, once, before seccomp_enter(). False if they have become too large, which a test would see.
bool seccomp_prepare(void);

// Let the calling thread, and those that it makes, make no other calls, and those of the network only where it may use
// that. Needs no_new_privs. -1 with the cause in errno.
int seccomp_enter(bool network);
