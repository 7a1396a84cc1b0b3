#include "guest.h"

#include <string.h>

enum { WASM_I32 = 0, PARAMETERS = 4 };

uint8_t *guest_memory(struct wasmtime_caller *caller, uint32_t at, uint32_t size) {
    static char name[] = "memory";
    struct wasmtime_extern memory;
    if (!wasmtime_caller_export_get(caller, name, strlen(name), &memory) || memory.kind != WASMTIME_EXTERN_MEMORY)
        return NULL;
    struct wasmtime_context *context = wasmtime_caller_context(caller);
    if ((uint64_t)at + size > wasmtime_memory_data_size(context, &memory.of.memory))
        return NULL;
    return wasmtime_memory_data(context, &memory.of.memory) + at;
}

bool guest_put(struct wasmtime_caller *caller, uint32_t at, uint32_t number) {
    uint8_t *bytes = guest_memory(caller, at, sizeof number);
    for (unsigned i = 0; bytes != NULL && i < sizeof number; i++)
        bytes[i] = (uint8_t)(number >> 8 * i);
    return bytes != NULL;
}

bool guest_define(struct wasmtime_linker *linker, const char *module, const char *name, size_t parameters,
                  size_t results, guest_function *function) {
    struct wasm_valtype_t *numbers[PARAMETERS], *result = results > 0 ? wasm_valtype_new(WASM_I32) : NULL;
    struct wasm_valtype_vec_t taken, given;
    for (size_t i = 0; i < parameters; i++)
        numbers[i] = wasm_valtype_new(WASM_I32);
    wasm_valtype_vec_new(&taken, parameters, numbers);
    wasm_valtype_vec_new(&given, results, &result);
    struct wasm_functype_t *type = wasm_functype_new(&taken, &given);
    // The library only reads the names; its declarations do not say so.
    struct wasmtime_error *error = wasmtime_linker_define_func_unchecked(
        linker, (char *)module, strlen(module), (char *)name, strlen(name), type, function, NULL, NULL);
    wasm_functype_delete(type);
    return error == NULL;
}
