// Running a guest: code, WASI, limits, entry point, and what its end means.
#pragma once
#include "code.h"
#include "library.h"
#include "logs.h"
#include "records.h"
#include "spec.h"

// Make all ready that takes the rights of whoever made the container: the guest's code, which may be `kept`, and
// what it sees of the world, with `root` as its root directory, and its output in `log`, or in the process' standard
// files if that is NULL. False if it cannot run, and then `ending` says why.
bool wasi_prepare(const struct runtime *runtime, const struct spec *spec, const struct code *kept, char *root,
                  struct log *log, struct ending *ending);

// Run it to its end; fills in `ending`'s code, reason, message, and `started_at` with 0 if the guest was never
// reached.
void wasi_run(const struct runtime *runtime, struct log *log, struct ending *ending);

// Let go of all that it had, for a process that does not end with it.
void wasi_leave(void);

// Make it ready to be run once more, if its spec says so, in a store of its own and the next of its worlds: nothing is
// left to it of what was before.
bool wasi_begin(const struct runtime *runtime, const struct spec *spec, struct ending *ending);
