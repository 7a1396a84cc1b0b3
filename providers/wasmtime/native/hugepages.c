#include "hugepages.h"

#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { LARGE = 2 << 20, LARGE_KIB = LARGE >> 10 };

// Whether the mapping that begins at `start` is one large page: the kernel may have had none.
static bool is_large(const unsigned char *start) {
    FILE *file = fopen("/proc/self/smaps", "re");
    char line[512];
    bool found = false;
    unsigned long first, end, size = 0;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "%lx-%lx ", &first, &end) == 2)
            found = first == (uintptr_t)start;
        else if (found && sscanf(line, "AnonHugePages: %lu kB", &size) == 1)
            break;
    }
    if (file != NULL)
        fclose(file);
    return size == LARGE_KIB;
}

// Put a copy in the place of the large page's worth of memory at `at`. What is there stays as it is where that
// cannot be done. Nothing of it runs meanwhile, and nobody else: the launcher has one thread.
static void replace(unsigned char *at, int protection) {
    unsigned char *room = mmap(NULL, 2L * LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED)
        return;
    size_t before = (LARGE - (uintptr_t)room % LARGE) % LARGE;
    unsigned char *copy = room + before;
    if (before > 0)
        munmap(room, before);
    munmap(copy + LARGE, LARGE - before);
    if (madvise(copy, LARGE, MADV_HUGEPAGE) == 0) {
        memcpy(copy, at, LARGE);
        if (is_large(copy) && mprotect(copy, LARGE, protection) == 0 &&
            mremap(copy, LARGE, LARGE, MREMAP_MAYMOVE | MREMAP_FIXED, at) == at)
            return;
    }
    munmap(copy, LARGE);
}

// dl_iterate_phdr(3) calls this for each loaded object.
static int find(struct dl_phdr_info *object, size_t size, void *path) {
    (void)size;
    if (strcmp(object->dlpi_name, path) != 0)
        return 0;
    for (size_t i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
        if (segment->p_type != PT_LOAD || segment->p_flags & PF_W)
            continue;
        uintptr_t start = object->dlpi_addr + segment->p_vaddr, end = start + segment->p_memsz;
        for (uintptr_t at = (start + LARGE - 1) / LARGE * LARGE; at + LARGE <= end; at += LARGE)
            replace((unsigned char *)at, segment->p_flags & PF_X ? PROT_READ | PROT_EXEC : PROT_READ);
    }
    return 1;
}

void hugepages_use(const char *path) {
    dl_iterate_phdr(find, (void *)path);
}
