#include "terminal.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

// The errno of WASI preview 1, as far as these functions need it.
enum { WASI_SUCCESS = 0, WASI_FAULT = 21, WASI_IO = 29, WASI_NOTTY = 59 };
enum { WASM_I32 = 0 };

static int32_t failure(void) {
    return errno == ENOTTY || errno == EINVAL ? WASI_NOTTY : WASI_IO;
}

static int32_t set_raw(bool enable) {
    static struct termios before;
    static bool is_raw;
    struct termios mode;
    if (tcgetattr(STDIN_FILENO, &mode) < 0)
        return failure();
    if (enable == is_raw)
        return WASI_SUCCESS;
    if (enable) {
        before = mode;
        mode.c_iflag &= ~(tcflag_t)(BRKINT | ICRNL | IGNCR | INLCR | ISTRIP | IXON | PARMRK);
        mode.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | IEXTEN | ISIG);
        mode.c_cc[VMIN] = 1;
        mode.c_cc[VTIME] = 0;
    }
    // Output is drained and no input is lost: what was typed ahead is the guest's.
    if (tcsetattr(STDIN_FILENO, TCSADRAIN, enable ? &mode : &before) < 0)
        return failure();
    is_raw = enable;
    return WASI_SUCCESS;
}

// Write a number where the guest says. False if that is not in its memory.
static bool put(struct wasmtime_caller *caller, uint32_t at, uint32_t number) {
    static char name[] = "memory";
    struct wasmtime_extern memory;
    if (!wasmtime_caller_export_get(caller, name, strlen(name), &memory) || memory.kind != WASMTIME_EXTERN_MEMORY)
        return false;
    struct wasmtime_context *context = wasmtime_caller_context(caller);
    if ((uint64_t)at + sizeof number > wasmtime_memory_data_size(context, &memory.of.memory))
        return false;
    uint8_t *bytes = wasmtime_memory_data(context, &memory.of.memory) + at;
    for (unsigned i = 0; i < sizeof number; i++)
        bytes[i] = (uint8_t)(number >> 8 * i);
    return true;
}

// The functions as the library calls them: arguments come and results go in `values`. 0: no trap.
static size_t on_set_raw(void *data, struct wasmtime_caller *caller, union wasmtime_val_raw *values, size_t count) {
    (void)data, (void)caller, (void)count;
    values[0].i32 = set_raw(values[0].i32 != 0);
    return 0;
}

static size_t on_get_size(void *data, struct wasmtime_caller *caller, union wasmtime_val_raw *values, size_t count) {
    (void)data, (void)count;
    struct winsize size;
    uint32_t rows = (uint32_t)values[0].i32, columns = (uint32_t)values[1].i32;
    if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) < 0)
        values[0].i32 = failure();
    else
        values[0].i32 = put(caller, rows, size.ws_row) && put(caller, columns, size.ws_col) ? WASI_SUCCESS : WASI_FAULT;
    return 0;
}

// The type of a function with `count` parameters and one result, all i32.
static struct wasm_functype_t *type(size_t count) {
    struct wasm_valtype_t *numbers[] = {wasm_valtype_new(WASM_I32), wasm_valtype_new(WASM_I32)};
    struct wasm_valtype_t *result = wasm_valtype_new(WASM_I32);
    struct wasm_valtype_vec_t parameters, results;
    wasm_valtype_vec_new(&parameters, count, numbers);
    wasm_valtype_vec_new(&results, 1, &result);
    return wasm_functype_new(&parameters, &results);
}

const char *terminal_define(struct wasmtime_linker *linker) {
    static char module[] = "vkubelet_terminal", set_raw_name[] = "set_raw", get_size_name[] = "get_size";
    if (wasmtime_linker_define_func_unchecked(linker, module, strlen(module), set_raw_name, strlen(set_raw_name),
                                              type(1), on_set_raw, NULL, NULL) != NULL ||
        wasmtime_linker_define_func_unchecked(linker, module, strlen(module), get_size_name, strlen(get_size_name),
                                              type(2), on_get_size, NULL, NULL) != NULL)
        return "the functions for terminals cannot be linked";
    return NULL;
}
