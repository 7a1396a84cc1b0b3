// A container's process, from fork to end.
#pragma once
#include "library.h"
#include <stdint.h>

// Become the container whose directory is open as `directory`. Its standard files are the three of `streams`;
// with NULL it has a log. Does not return.
_Noreturn void container_run(const struct runtime *runtime, int directory, const int *streams, uint64_t started_at);
