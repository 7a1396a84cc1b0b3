#include "records.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return (uint64_t)time.tv_sec * 1000000000U + (uint64_t)time.tv_nsec;
}

// What the host calls this process, if it is a container's. Later it comes to no file of the kernel's.
static pid_t number;

// Field 22 of this file, and field 1 in `*pid`. 0 if there is none.
static uint64_t start_time(const char *path, pid_t *pid) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    char text[1024];
    ssize_t size = read(fd, text, sizeof text - 1);
    close(fd);
    if (size <= 0)
        return 0;
    text[size] = 0;
    *pid = (pid_t)strtol(text, NULL, 10);
    // The command's name, field 2, is in parentheses and may hold anything, parentheses too.
    char *at = strrchr(text, ')');
    for (int field = 2; at != NULL && field < 22; field++)
        at = strchr(at + 1, ' ');
    return at == NULL ? 0 : strtoull(at, NULL, 10);
}

uint64_t process_start_time(pid_t pid) {
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    return start_time(path, &pid);
}

pid_t process_number(void) {
    return number != 0 ? number : getpid();
}

static bool write_all(int fd, const char *data, size_t size) {
    while (size > 0) {
        ssize_t written = write(fd, data, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return false;
        data += written;
        size -= (size_t)written;
    }
    return true;
}

// Make the file `name` with this content, unless it is there already: of the file that was kept for it, if there is
// one, for a disk that is full has room for no other.
static bool place(int directory, const char *name, const char *data, size_t size) {
    char kept[32], temporary[64];
    snprintf(kept, sizeof kept, ".%s", name);
    snprintf(temporary, sizeof temporary, ".%s.%d", name, (int)process_number());
    syscall(SYS_renameat2, directory, kept, directory, temporary, 0);
    int fd = openat(directory, temporary, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    bool placed = write_all(fd, data, size) && ftruncate(fd, (off_t)size) == 0;
    int cause = errno;
    close(fd);
    if (placed) {
        placed = syscall(SYS_renameat2, directory, temporary, directory, name, RENAME_NOREPLACE) == 0;
        cause = errno;
    }
    if (!placed) {
        unlinkat(directory, temporary, 0);
        errno = cause;
    }
    return placed;
}

bool record_started(int directory, uint64_t started_at) {
    char text[96];
    uint64_t ticks = start_time("/proc/self/stat", &number);
    int size = snprintf(text, sizeof text, "%d%c%" PRIu64 "%c%" PRIu64 "%c", (int)process_number(), 0, ticks, 0,
                        started_at, 0);
    return place(directory, "started", text, (size_t)size);
}

static bool leave(int directory, const struct ending *ending, int most) {
    char text[MESSAGE_MAX + 160];
    int size = snprintf(text, sizeof text, "%d%c%s%c%d%c%" PRIu64 "%c%" PRIu64 "%c%.*s%c", ending->code, 0,
                        ending->reason, 0, ending->signal, 0, ending->started_at, 0, ending->finished_at, 0, most,
                        ending->message, 0);
    return place(directory, "exit", text, (size_t)size);
}

// What was kept for a record has room for this much of its message. Whoever else than the process itself records its
// end has that room too: the process left no record.
bool record_exit(int directory, const struct ending *ending) {
    enum { SHORT = 3800 };
    if (leave(directory, ending, MESSAGE_MAX))
        return true;
    if (errno != ENOSPC && errno != EDQUOT)
        return false;
    unlinkat(directory, "own/.exit", 0);
    return leave(directory, ending, SHORT);
}
