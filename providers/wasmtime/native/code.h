// Compiled code that the launcher keeps loaded, for the processes that it forks to share.
#pragma once
#include "library.h"
#include <stdbool.h>

struct code {
    const char *path;
    bool is_component;
    int file; // the library's own, which the code's memory is mapped from
    struct wasmtime_module *module; // or
    struct wasmtime_component_t *component;
    struct wasmtime_instance_pre *instance; // the module with its imports, where they have been found
};

// A process is about to be forked for the container whose directory is open: the code that it will ask for, if that
// is kept, and NULL if not. What fails here is for the process to find out, and to tell.
const struct code *code_keep(const struct runtime *runtime, int directory);

// Load `code` from its path. The caller frees the error.
struct wasmtime_error *code_load(const struct runtime *runtime, struct code *code);
