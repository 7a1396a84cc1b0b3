#include "exits.h"

#include <string.h>

enum { WASM_I32 = 0 };

static bool has_exited;
static int exit_status;

static size_t on_exit_call(void *data, struct wasmtime_caller *caller, union wasmtime_val_raw *values, size_t count) {
    static char text[] = "exit";
    (void)data, (void)caller, (void)count;
    exit_status = values[0].i32 & 0xff; // exit(3)
    has_exited = true;
    return (size_t)wasmtime_trap_new(text, strlen(text));
}

const char *exits_define(struct wasmtime_linker *linker) {
    static char module[] = "wasi_snapshot_preview1", name[] = "proc_exit";
    struct wasm_valtype_t *number = wasm_valtype_new(WASM_I32);
    struct wasm_valtype_vec_t taken, given;
    wasm_valtype_vec_new(&taken, 1, &number);
    wasm_valtype_vec_new(&given, 0, NULL);
    wasmtime_linker_allow_shadowing(linker, true);
    bool failed = wasmtime_linker_define_func_unchecked(linker, module, strlen(module), name, strlen(name),
                                                        wasm_functype_new(&taken, &given), on_exit_call, NULL,
                                                        NULL) != NULL;
    wasmtime_linker_allow_shadowing(linker, false);
    return failed ? "the function by which guests exit cannot be linked" : NULL;
}

bool exits_status(int *status) {
    *status = exit_status;
    return has_exited;
}
