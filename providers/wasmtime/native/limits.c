#include "limits.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// What the library keeps of a store's limits, one after another. Behind them is a boolean: whether what is refused
// ends the guest, for which its Rust interface has a function and its C interface none.
enum { HAS_LIMIT, LIMIT, TABLES_HAVE_LIMIT, TABLE_LIMIT, INSTANCES, TABLES, MEMORIES, WORDS };
enum { ELEMENT = 8 }; // bytes that an element of a table takes, of most kinds

static struct {
    uint64_t *words;
    bool *ends_guest;
    int64_t limit;
    uint64_t own_maximum;
    int directory;
} limits = {.own_maximum = UINT64_MAX};

// They are found by values that nothing else has. Nothing is known of other versions: this program takes no library
// but the one that it was built for, and tests run guests into their limits with it.
static bool find(struct wasmtime_store *store) {
    static const uint64_t marks[WORDS] = {1, 0x5eed0b5e55ed01, 1, 0x5eed0b5e55ed02, 0x5eed03, 0x5eed04, 0x5eed05};
    wasmtime_store_limiter(store, (int64_t)marks[LIMIT], (int64_t)marks[TABLE_LIMIT], (int64_t)marks[INSTANCES],
                           (int64_t)marks[TABLES], (int64_t)marks[MEMORIES]);
    uint64_t *words = (uint64_t *)wasmtime_store_context(store);
    size_t count = malloc_usable_size(words) / sizeof *words, found = 0;
    for (size_t i = 0; i + WORDS < count; i++) {
        if (memcmp(words + i, marks, sizeof marks) == 0) {
            limits.words = words + i;
            found++;
        }
    }
    if (found != 1)
        return false;
    limits.ends_guest = (bool *)(limits.words + WORDS);
    wasmtime_store_limiter(store, -1, -1, -1, -1, -1);
    return limits.words[HAS_LIMIT] == 0 && *(unsigned char *)limits.ends_guest == 0;
}

// The guest may be running, and in this very moment be asking for memory in another thread.
static void apply(void) {
    if (limits.words == NULL)
        return;
    bool limited = limits.limit >= 0 && (uint64_t)limits.limit < limits.own_maximum;
    if (limited)
        __atomic_store_n(&limits.words[LIMIT], (uint64_t)limits.limit, __ATOMIC_RELEASE);
    __atomic_store_n(limits.ends_guest, limited, __ATOMIC_RELEASE);
    __atomic_store_n(&limits.words[HAS_LIMIT], limited, __ATOMIC_RELEASE);
    // Each table may be as large too: 32 GiB otherwise, where no cgroup bounds them.
    if (limits.limit >= 0)
        __atomic_store_n(&limits.words[TABLE_LIMIT], (uint64_t)limits.limit / ELEMENT, __ATOMIC_RELEASE);
    __atomic_store_n(&limits.words[TABLES_HAVE_LIMIT], limits.limit >= 0, __ATOMIC_RELEASE);
}

bool limits_set(struct wasmtime_store *store, int64_t limit) {
    if (!find(store))
        return false;
    limits.limit = limit;
    limits.own_maximum = UINT64_MAX;
    apply();
    return true;
}

void limits_forget(void) {
    limits.words = NULL;
}

void limits_own_maximum(uint64_t maximum) {
    limits.own_maximum = maximum;
    apply();
}

static bool is_number(const char *text, size_t size) {
    return size > 1 && size < 20 && text[size - 1] == 0 && strspn(text, "0123456789") == size - 1;
}

static void look(void) {
    char text[32];
    int fd = openat(limits.directory, "memory-limit", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return; // it was never changed
    ssize_t size = read(fd, text, sizeof text);
    close(fd);
    if (size == 2 && memcmp(text, "-", 2) == 0)
        limits.limit = -1;
    else if (size > 0 && is_number(text, (size_t)size))
        limits.limit = strtoll(text, NULL, 10);
    apply();
}

static void on_change(int signal_number) {
    (void)signal_number;
    int cause = errno;
    look();
    errno = cause;
}

bool limits_watch(int directory) {
    limits.directory = directory;
    struct sigaction action = {.sa_handler = on_change, .sa_flags = SA_RESTART};
    if (sigaction(SIGURG, &action, NULL) < 0)
        return false;
    // What was changed before was said to nobody.
    on_change(SIGURG);
    return true;
}

// The number that follows the words; 0 if they are not there.
static uint64_t number_after(const char *text, size_t size, const char *words) {
    const char *at = memmem(text, size, words, strlen(words));
    uint64_t number = 0;
    for (at = at != NULL ? at + strlen(words) : text + size; at < text + size && *at >= '0' && *at <= '9'; at++)
        number = 10 * number + (uint64_t)(*at - '0');
    return number;
}

bool limits_exceeded(const char *text, size_t size, char *message, size_t message_size) {
    static const char failed[] = "forcing a memory growth failure to be a trap", no_heap[] = "GC heap out of memory: ";
    uint64_t wanted = number_after(text, size, "forcing trap when growing memory to ");
    uint64_t elements = number_after(text, size, "forcing trap when growing table to ");
    if (wanted == 0 && elements < UINT64_MAX / ELEMENT)
        wanted = elements * ELEMENT;
    if (limits.limit >= 0 && wanted > (uint64_t)limits.limit) {
        snprintf(message, message_size, "out of memory: the guest asked for %llu bytes, and its limit is %lld",
                 (unsigned long long)wanted, (long long)limits.limit);
        return true;
    }
    if (limits.limit >= 0 && memmem(text, size, no_heap, sizeof no_heap - 1) != NULL) {
        snprintf(message, message_size, "out of memory: the guest's objects take more than its limit of %lld bytes",
                 (long long)limits.limit);
        return true;
    }
    // In a component the limit of a memory may be one of its own, which is then no limit that was set for it.
    if (memmem(text, size, failed, sizeof failed - 1) == NULL)
        return false;
    snprintf(message, message_size, "out of memory: the node has not as much as the guest asked for");
    return true;
}
