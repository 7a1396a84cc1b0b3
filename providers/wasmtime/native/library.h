// The wasmtime library, and what is made of it once, for all containers.
#pragma once
#include "wasmtime_api.h"

struct runtime {
    struct wasm_engine_t *engine;
    struct wasmtime_linker *linker;
    struct wasmtime_component_linker_t *component_linker;
};

// Load the library at `path` and make engine and linkers, which forked processes share. It is refused if
// it is not the one that this program was built for: its structures and compiled code would differ.
// NULL, or what failed.
const char *runtime_open(struct runtime *runtime, const char *path);
