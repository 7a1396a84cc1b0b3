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

uint64_t process_start_time(pid_t pid) {
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    char text[1024];
    ssize_t size = read(fd, text, sizeof text - 1);
    close(fd);
    if (size <= 0)
        return 0;
    text[size] = 0;
    // The command's name, field 2, is in parentheses and may hold anything, parentheses too.
    char *at = strrchr(text, ')');
    for (int field = 2; at != NULL && field < 22; field++)
        at = strchr(at + 1, ' ');
    return at == NULL ? 0 : strtoull(at, NULL, 10);
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

// Make the file `name` with this content, unless it is there already.
static bool place(int directory, const char *name, const char *data, size_t size) {
    char temporary[64];
    snprintf(temporary, sizeof temporary, ".%s.%d", name, (int)getpid());
    int fd = openat(directory, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    bool placed = write_all(fd, data, size);
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
    int size = snprintf(text, sizeof text, "%d%c%" PRIu64 "%c%" PRIu64 "%c", (int)getpid(), 0,
                        process_start_time(getpid()), 0, started_at, 0);
    return place(directory, "started", text, (size_t)size);
}

bool record_exit(int directory, const struct ending *ending) {
    char text[MESSAGE_MAX + 160];
    int size = snprintf(text, sizeof text, "%d%c%s%c%d%c%" PRIu64 "%c%" PRIu64 "%c%s%c", ending->code, 0,
                        ending->reason, 0, ending->signal, 0, ending->started_at, 0, ending->finished_at, 0,
                        ending->message, 0);
    return place(directory, "exit", text, (size_t)size);
}
