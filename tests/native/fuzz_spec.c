// Fuzzes what the launcher reads of a container's directory, the working directory here: whatever the agent's files
// hold, they are taken within their bounds or refused, and what is taken keeps to what the launcher takes for granted.
#include "fuzz.h"

#include <string.h>

static void *remember(size_t size);

#define malloc remember
#include "spec.c"
#undef malloc
#include "code.c"
#include "limits.c"

static int directory;
static char *read_text; // by the launcher, which never frees it
static int loaded; // and not freed yet

static void *remember(size_t size) {
    return read_text = malloc(size);
}

// Whether the spec can be decoded.
static bool check_spec(const unsigned char *data, size_t size) {
    // Exactly as large as what is decoded, so that a sanitizer sees a byte read beyond it.
    char *text = malloc(size > 0 ? size : 1);
    expect(text != NULL, "out of memory");
    if (size > 0)
        memcpy(text, data, size);
    struct spec spec;
    size_t length = 0;
    bool is_whole = spec_decode(text, size, &spec) == NULL;
    if (is_whole) {
        expect(spec.code != NULL && spec.log_max_bytes > 0 && spec.log_max_files > 0, "something is missing");
        expect(spec.identity_count != 1, "half an identity");
        expect(spec.memory_limit >= -1, "a negative limit");
        for (size_t i = 0; i < spec.argument_count; i++)
            length += strlen(spec.arguments[i]);
        for (size_t i = 0; i < spec.variable_count; i++)
            length += strlen(spec.names[i]) + strlen(spec.values[i]);
        for (size_t i = 0; i < spec.cgroup_count; i++)
            length += strlen(spec.cgroups[i]);
        for (size_t i = 0; i < spec.preopen_count; i++)
            length += strlen(spec.preopens[i].host) + strlen(spec.preopens[i].guest) +
                      (spec.preopens[i].beneath != NULL ? strlen(spec.preopens[i].beneath) : 0);
        expect(length <= 2 * size + strlen("PWD"), "more than there was");
    }
    spec_free(&spec);
    free(text);
    return is_whole;
}

// In the place of the library: code is what can be opened, and components are none.
static struct wasmtime_error *load_module(struct wasm_engine_t *engine, char *path, struct wasmtime_module **module) {
    (void)engine;
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return (struct wasmtime_error *)&loaded;
    *module = (struct wasmtime_module *)(uintptr_t)fd;
    loaded++;
    return NULL;
}

static void free_module(struct wasmtime_module *module) {
    expect(close((int)(uintptr_t)module) == 0, "freed twice");
    loaded--;
}

static struct wasmtime_error *load_component(struct wasm_engine_t *engine, char *path,
                                             struct wasmtime_component_t **component) {
    (void)engine, (void)path, (void)component;
    return (struct wasmtime_error *)&loaded;
}

static struct wasmtime_error *instantiate(struct wasmtime_linker *linker, struct wasmtime_module *module,
                                          struct wasmtime_instance_pre **instance) {
    (void)linker, (void)module;
    *instance = (struct wasmtime_instance_pre *)&loaded;
    return NULL;
}

static void free_instance(struct wasmtime_instance_pre *instance) {
    (void)instance;
}

static void free_error(struct wasmtime_error *error) {
    (void)error;
}

static void put(const char *name, const unsigned char *data, size_t size) {
    int fd = openat(directory, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    expect(fd >= 0 && write(fd, data, size) == (ssize_t)size && close(fd) == 0, "no file");
}

static void check_file(bool is_whole) {
    struct spec spec;
    expect((spec_read(directory, "spec", &spec) == NULL) == is_whole, "a file makes a difference");
    spec_free(&spec);
    free(read_text);
}

// Which code the launcher keeps for it: what is asked for twice.
static void check_code(const unsigned char *data) {
    static const struct runtime runtime;
    expect(code_keep(&runtime, directory) == NULL, "loaded though it was asked for once");
    const struct code *code = code_keep(&runtime, directory);
    if (code != NULL) {
        size_t kind = sizeof SPEC_FORMAT, path = kind + strlen((const char *)data + kind) + 2;
        expect(strcmp(code->path, (const char *)data + path) == 0 && code->is_component == false, "other code");
        expect(loaded == 1, "not loaded");
    }
    for (size_t i = 0; i < KEPT; i++)
        forget(&kept[i]);
    expect(loaded == 0, "kept though it was forgotten");
}

static void check_limit(const unsigned char *data, size_t size) {
    static uint64_t words[WORDS];
    static bool ends_guest;
    put("memory-limit", data, size);
    limits.words = words;
    limits.ends_guest = &ends_guest;
    limits.directory = directory;
    limits.limit = -1;
    look();
    bool is_limited = limits.limit >= 0;
    expect(limits.limit >= -1 && words[HAS_LIMIT] == is_limited && ends_guest == is_limited, "a limit by half");
    expect(!is_limited || (words[LIMIT] == (uint64_t)limits.limit && size > 1 && size < 20), "another limit");
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    if (directory == 0) {
        directory = openat(AT_FDCWD, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        wasmtime_module_deserialize_file = load_module;
        wasmtime_module_delete = free_module;
        wasmtime_component_deserialize_file = load_component;
        wasmtime_linker_instantiate_pre = instantiate;
        wasmtime_instance_pre_delete = free_instance;
        wasmtime_error_delete = free_error;
    }
    int before = next_descriptor();
    bool is_whole = check_spec(data, size);
    if (size >= sizeof SPEC_FORMAT && memcmp(data, SPEC_FORMAT, sizeof SPEC_FORMAT) == 0) {
        put("spec", data, size);
        check_file(is_whole);
        check_code(data);
    } else if (size < 40) {
        check_limit(data, size);
    }
    expect(next_descriptor() == before, "a descriptor stays open");
    return 0;
}
