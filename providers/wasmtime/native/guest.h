// What host functions of our own need: the guest's memory, and a place in the linker.
#pragma once
#include "library.h"

#include <stdint.h>

// The errno of WASI preview 1, as far as these functions need it.
enum {
    WASI_SUCCESS = 0,
    WASI_ACCES = 2,
    WASI_FAULT = 21,
    WASI_INVAL = 28,
    WASI_IO = 29,
    WASI_LOOP = 32,
    WASI_NAMETOOLONG = 37,
    WASI_NOENT = 44,
    WASI_NOTDIR = 54,
    WASI_NOTTY = 59,
    WASI_PERM = 63,
    WASI_ROFS = 69,
    WASI_NOTCAPABLE = 76,
};

// The library's type of a function: arguments come and results go in `values`. 0: no trap.
typedef size_t guest_function(void *data, struct wasmtime_caller *caller, union wasmtime_val_raw *values,
                              size_t count);

// `size` bytes of the guest's memory. NULL if they are not in it.
uint8_t *guest_memory(struct wasmtime_caller *caller, uint32_t at, uint32_t size);

// Write a number where the guest says. False if that is not in its memory.
bool guest_put(struct wasmtime_caller *caller, uint32_t at, uint32_t number);

// Define a function with so many parameters and one result or none, all i32. False if that fails.
bool guest_define(struct wasmtime_linker *linker, const char *module, const char *name, size_t parameters,
                  size_t results, guest_function *function);
