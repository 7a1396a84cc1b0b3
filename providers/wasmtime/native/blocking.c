#include "blocking.h"

#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

// The library's C interface has no function for this, which its Rust interface has. It is a boolean behind the list
// of directories, three words (capacity, place and length) that are found by what adding a directory changes. Nothing
// is known of other versions: this program takes no library but the one that it was built for, and a test counts a
// guest's threads with it.
enum { WORDS = 3, EMPTY = 8 };

enum { LARGEST = 64 };

// The word whose first byte it is; 0 where it is not found.
static size_t find(void) {
    static char root[] = "/";
    static uint64_t before[LARGEST];
    struct wasi_config_t *config = wasi_config_new();
    size_t size = malloc_usable_size(config), count = size / sizeof *before, found = 0;
    const uint64_t *now = (const uint64_t *)config;
    if (size > sizeof before || size < (WORDS + 1) * sizeof *before)
        count = 0;
    memcpy(before, now, count * sizeof *before);
    if (!wasi_config_preopen_dir(config, root, root, false))
        count = 0;
    size_t changed = 0;
    for (size_t i = 0; i < count; i++) {
        if (before[i] != now[i]) {
            changed++;
            found = changed == 1 ? i : found;
        }
    }
    bool is_list = changed == WORDS && found + WORDS < count && before[found] == 0 && before[found + 1] == EMPTY &&
                   before[found + 2] == 0 && now[found] > 0 && now[found + 1] > EMPTY && now[found + 2] == 1;
    return is_list && *(const unsigned char *)(now + found + WORDS) == 0 ? found + WORDS : 0;
}

static size_t place;

// Whoever makes a configuration also makes a generator of random numbers, which processes forked from there would all
// have: another process looks.
void blocking_find(void) {
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit((int)find());
    if (pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) < LARGEST)
        place = (size_t)WEXITSTATUS(status);
}

void blocking_allow(struct wasi_config_t *config) {
    if (place > 0)
        *(unsigned char *)((uint64_t *)config + place) = true;
}
