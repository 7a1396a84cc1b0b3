// A container's process, from fork to end.
#pragma once
#include "code.h"
#include "library.h"
#include <stdint.h>

// What a container's process is given of open files, beside its directory.
struct given {
    const int *streams;      // three that become its standard files; NULL for one with a log
    int listener;            // for those who attach; -1 for none
    bool is_in_cgroup;       // in that of version 2; those of version 1 are left to join
    const struct code *code; // that is loaded already; NULL for none
};

// Become the container whose directory is open as `directory`. Does not return.
_Noreturn void container_run(const struct runtime *runtime, int directory, struct given given, uint64_t started_at);
