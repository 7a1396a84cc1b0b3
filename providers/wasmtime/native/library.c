#include "library.h"
#include "blocking.h"
#include "exits.h"
#include "system.h"
#include "terminal.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct search {
    const char *path;
    char build_id[2 * 64 + 1];
};

// dl_iterate_phdr(3) calls this for each loaded object: find the build id of the one we look for.
static int find_build_id(struct dl_phdr_info *object, size_t size, void *data) {
    (void)size;
    struct search *search = data;
    if (strcmp(object->dlpi_name, search->path) != 0)
        return 0;
    for (size_t i = 0; i < object->dlpi_phnum; i++) {
        if (object->dlpi_phdr[i].p_type != PT_NOTE)
            continue;
        const unsigned char *at = (const unsigned char *)object->dlpi_addr + object->dlpi_phdr[i].p_vaddr;
        const unsigned char *end = at + object->dlpi_phdr[i].p_memsz;
        while (at + sizeof(ElfW(Nhdr)) <= end) {
            ElfW(Nhdr) note;
            memcpy(&note, at, sizeof note);
            const unsigned char *name = at + sizeof note, *id = name + ((note.n_namesz + 3U) & ~3U);
            if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && memcmp(name, "GNU", 4) == 0 &&
                note.n_descsz <= 64) {
                for (size_t j = 0; j < note.n_descsz; j++)
                    snprintf(search->build_id + 2 * j, 3, "%02x", id[j]);
                return 1;
            }
            at = id + ((note.n_descsz + 3U) & ~3U);
        }
    }
    return 1;
}

const char *runtime_open(struct runtime *runtime, const char *path) {
    static char wrong[512];
    // The library makes an asynchronous runtime at a guest's first call of WASI, with a thread for each
    // processor if it is not told otherwise. A guest waits for each of its calls: it needs one.
    if (setenv("TOKIO_WORKER_THREADS", "1", 1) < 0)
        return "setting TOKIO_WORKER_THREADS";
    // What the runtime's threads allocate is little: no memory of its own for each of them.
    mallopt(M_ARENA_MAX, 1);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        return dlerror();
    // A guest's output reaches its log through this program's write(); see wasi.c.
    void *found = dlsym(RTLD_DEFAULT, "write");
    ssize_t (*ours)(int, const void *, size_t) = write;
    if (memcmp(&found, &ours, sizeof found) != 0)
        return "this program's write() is not the first that the library finds";
    struct search search = {.path = path};
    dl_iterate_phdr(find_build_id, &search);
    if (strcmp(search.build_id, WASMTIME_BUILD_ID) != 0) {
        snprintf(wrong, sizeof wrong,
                 "%.200s has build id %s, and this launcher was built for %s: rebuild it", path,
                 search.build_id[0] ? search.build_id : "(none)", WASMTIME_BUILD_ID);
        return wrong;
    }
    const char *failed = wasmtime_api_bind(library);
    if (failed != NULL)
        return failed;
    runtime->engine = wasmtime_api_engine();
    if (runtime->engine == NULL)
        return "the engine cannot be made with this configuration";
    runtime->linker = wasmtime_linker_new(runtime->engine);
    if (wasmtime_linker_define_wasi(runtime->linker) != NULL)
        return "WASI preview 1 cannot be linked";
    failed = exits_define(runtime->linker);
    if (failed == NULL)
        failed = terminal_define(runtime->linker);
    if (failed == NULL)
        failed = system_define(runtime->linker);
    if (failed != NULL)
        return failed;
    blocking_find();
    runtime->component_linker = wasmtime_component_linker_new(runtime->engine);
    if (wasmtime_component_linker_add_wasip2(runtime->component_linker) != NULL)
        return "WASI preview 2 cannot be linked";
    return NULL;
}
