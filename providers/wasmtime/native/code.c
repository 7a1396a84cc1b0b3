#include "code.h"

#include "spec.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// Each takes the launcher some memory, and each fork some time. Which code a container has stands at the beginning of
// its spec.
enum { KEPT = 8, BEGINNING = 8192 };

static struct kept {
    struct code code; // without a path there is nothing
    struct stat file;
    uint64_t used; // when, in uses
    bool is_loaded, has_failed;
} kept[KEPT];

static void forget(struct kept *entry) {
    if (entry->code.instance != NULL)
        wasmtime_instance_pre_delete(entry->code.instance);
    if (entry->code.module != NULL)
        wasmtime_module_delete(entry->code.module);
    if (entry->code.component != NULL)
        wasmtime_component_delete(entry->code.component);
    free((char *)entry->code.path);
    *entry = (struct kept){.used = 0};
}

static bool is_same(const struct stat *one, const struct stat *other) {
    return one->st_dev == other->st_dev && one->st_ino == other->st_ino &&
           one->st_mtim.tv_sec == other->st_mtim.tv_sec && one->st_mtim.tv_nsec == other->st_mtim.tv_nsec;
}

// The field at `*at`, if it has this tag and ends before `end`; `*at` is then behind it.
static const char *field(const char **at, const char *end, char tag) {
    const char *start = *at, *nul = start < end ? memchr(start, 0, (size_t)(end - start)) : NULL;
    if (nul == NULL || *start != tag)
        return NULL;
    *at = nul + 1;
    return start + 1;
}

// Which code the spec in the container's directory names; the path is valid until the next call.
static bool named(int directory, struct code *code) {
    static char text[BEGINNING];
    int fd = openat(directory, "spec", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t size = read(fd, text, sizeof text);
    close(fd);
    if (size < (ssize_t)sizeof SPEC_FORMAT || memcmp(text, SPEC_FORMAT, sizeof SPEC_FORMAT) != 0)
        return false;
    const char *at = text + sizeof SPEC_FORMAT, *end = text + size;
    const char *kind = field(&at, end, 'k');
    code->path = kind == NULL ? NULL : field(&at, end, 'm');
    code->is_component = kind != NULL && strcmp(kind, "component") == 0;
    // The rest may be secret, and all of this program's memory is the next container's too.
    memset(text + (at - text), 0, (size_t)(end - at));
    return code->path != NULL;
}

// What is kept of this file, or else a place for it: that of what was used longest ago.
static struct kept *place(const struct code *wanted, const struct stat *file) {
    struct kept *oldest = kept;
    for (struct kept *entry = kept; entry < kept + KEPT; entry++) {
        if (entry->code.path != NULL && strcmp(entry->code.path, wanted->path) == 0 &&
            entry->code.is_component == wanted->is_component && is_same(&entry->file, file))
            return entry;
        if (entry->used < oldest->used)
            oldest = entry;
    }
    forget(oldest);
    oldest->code = (struct code){.path = strdup(wanted->path), .is_component = wanted->is_component};
    oldest->file = *file;
    return oldest;
}

struct wasmtime_error *code_load(const struct runtime *runtime, struct code *code) {
    // The library only reads the path; its declarations do not say so.
    char *path = (char *)code->path;
    return code->is_component ? wasmtime_component_deserialize_file(runtime->engine, path, &code->component)
                              : wasmtime_module_deserialize_file(runtime->engine, path, &code->module);
}

// The library keeps the file open, and each instance's memory is mapped from it: the number is the one that was
// free before, which is seen to be right.
static bool load(const struct runtime *runtime, struct kept *entry) {
    struct stat file;
    struct code *code = &entry->code;
    int number = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);
    close(number);
    struct wasmtime_error *error = code_load(runtime, code);
    if (error == NULL && !code->is_component)
        error = wasmtime_linker_instantiate_pre(runtime->linker, code->module, &code->instance);
    if (error != NULL) {
        wasmtime_error_delete(error);
        return false;
    }
    code->file = number;
    return fstat(number, &file) == 0 && is_same(&file, &entry->file);
}

// What is asked for once may never be again: it is loaded when it is.
const struct code *code_keep(const struct runtime *runtime, int directory) {
    static uint64_t uses;
    struct code wanted;
    struct stat file;
    if (!named(directory, &wanted) || stat(wanted.path, &file) < 0)
        return NULL;
    struct kept *entry = place(&wanted, &file);
    bool is_known = entry->used > 0;
    entry->used = ++uses;
    if (is_known && !entry->is_loaded && !entry->has_failed) {
        entry->is_loaded = load(runtime, entry);
        entry->has_failed = !entry->is_loaded;
    }
    return entry->is_loaded ? &entry->code : NULL;
}
