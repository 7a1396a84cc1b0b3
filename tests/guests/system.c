/* Asks the node about files and itself, and says what it was told; the arguments come in turn:
 *   look PATH | link PATH | mode OCTAL PATH | who CAPACITY | space PATH | beyond PATH
 * `link` looks at a symbolic link itself; `beyond` names places that are no memory. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FROM(name) __attribute__((import_module("vkubelet_system"), import_name(name)))

FROM("attributes") int32_t attributes(const char *path, uint32_t length, int32_t follow, void *result);
FROM("set_mode") int32_t set_mode(const char *path, uint32_t length, uint32_t mode);
FROM("identity") int32_t identity(uint32_t *ids, uint32_t capacity, uint32_t *count);

FROM("space") int32_t space(const char *path, uint32_t length, void *result);

static void room(const char *path)
{
    uint64_t told[3] = {0};
    int32_t failed = space(path, (uint32_t)strlen(path), told);
    if (failed)
        printf("failed %d\n", failed);
    else
        printf("%llu %llu %llu\n", (unsigned long long)told[0], (unsigned long long)told[1],
               (unsigned long long)told[2]);
}

static void look(const char *path, int32_t follow)
{
    uint32_t told[4] = {0};
    int32_t failed = attributes(path, (uint32_t)strlen(path), follow, told);
    if (failed)
        printf("failed %d\n", failed);
    else
        printf("%06o %u %u %x\n", told[0], told[1], told[2], told[3]);
}

static void who(uint32_t capacity)
{
    uint32_t ids[16] = {0}, count = 0;
    int32_t failed = identity(ids, capacity, &count);
    printf("%d, %u:", failed, count);
    for (uint32_t i = 0; i < capacity && i < count; i++)
        printf(" %u", ids[i]);
    printf("\n");
}

static void beyond(const char *path)
{
    uint32_t end = (uint32_t)__builtin_wasm_memory_size(0) * 65536, length = (uint32_t)strlen(path), count;
    int32_t results[] = {
        attributes(path, length, 1, (void *)(uintptr_t)(end - 12)),
        attributes(path, length, 1, (void *)(uintptr_t)(UINT32_MAX - 3)),
        space(path, length, (void *)(uintptr_t)(end - 20)),
        space(path, length, (void *)(uintptr_t)(UINT32_MAX - 3)),
        attributes((const char *)(uintptr_t)(end - 1), 2, 1, 0),
        attributes(path, UINT32_MAX, 1, 0),
        set_mode((const char *)(uintptr_t)end, 1, 0),
        identity((uint32_t *)(uintptr_t)(end - 4), 2, &count),
        identity(0, UINT32_MAX, &count),
        identity(0, 0, (uint32_t *)(uintptr_t)(end - 3)),
    };
    for (unsigned i = 0; i < sizeof results / sizeof *results; i++)
        printf("%d ", results[i]);
    printf("\n");
}

int main(int count, char **arguments)
{
    for (int i = 1; i + 1 < count; i += 2) {
        const char *what = arguments[i], *path = arguments[i + 1];
        if (strcmp(what, "look") == 0)
            look(path, 1);
        else if (strcmp(what, "link") == 0)
            look(path, 0);
        else if (strcmp(what, "who") == 0)
            who((uint32_t)atoi(path));
        else if (strcmp(what, "space") == 0)
            room(path);
        else if (strcmp(what, "beyond") == 0)
            beyond(path);
        else if (strcmp(what, "mode") == 0 && ++i + 1 < count)
            printf("mode %d\n", set_mode(arguments[i + 1], (uint32_t)strlen(arguments[i + 1]),
                                         (uint32_t)strtoul(path, NULL, 8)));
        else
            return 2;
    }
    return 0;
}
