// A container's process, from fork to end.
#pragma once
#include "library.h"
#include <stdint.h>

// Become the container whose directory is open as `directory`. Does not return.
_Noreturn void container_run(const struct runtime *runtime, int directory, uint64_t started_at);
