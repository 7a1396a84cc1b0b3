// Running a guest: code, WASI, limits, entry point, and what its end means.
#pragma once
#include "library.h"
#include "logs.h"
#include "records.h"
#include "spec.h"

// Run what the spec says to its end, with `root` as the guest's root directory, and its output in `log`, or in
// the process' standard files if that is NULL; fills in `ending`'s code, reason, message, and `started_at` with
// 0 if the guest was never reached.
void wasi_run(const struct runtime *runtime, const struct spec *spec, char *root, struct log *log,
              struct ending *ending);
