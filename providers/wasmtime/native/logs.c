#include "logs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { TIME_SIZE = 30, HEADER_SIZE = TIME_SIZE + sizeof " stdout F " - 1, SUFFIX_MAX = 64 };

// Whoever rotates the log may have put anything in the place of the file since.
static int open_file(const struct log *log) {
    return openat(log->folder, log->name, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0640);
}

static int open_folder(const char *path, const char *slash) {
    char folder[PATH_MAX];
    int size = snprintf(folder, sizeof folder, "%.*s", slash != NULL ? (int)(slash + 1 - path) : 1,
                        slash != NULL ? path : ".");
    if (size < 0 || (size_t)size >= sizeof folder) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

bool log_open(struct log *log, const char *path, uint64_t max_bytes, unsigned max_files) {
    pthread_mutex_init(&log->mutex, NULL);
    const char *slash = strrchr(path, '/');
    log->name = slash != NULL ? slash + 1 : path;
    log->max_bytes = max_bytes;
    log->max_files = max_files;
    log->second = -1;
    log->folder = open_folder(path, slash);
    log->fd = log->folder < 0 ? -1 : open_file(log);
    struct stat status;
    if (log->fd < 0 || fstat(log->fd, &status) < 0)
        return false;
    errno = EINVAL;
    log->size = (uint64_t)status.st_size;
    return S_ISREG(status.st_mode);
}

// Remove the oldest of the rotated files until `max_files` with the current one remain.
static void prune(const struct log *log) {
    size_t length = strlen(log->name);
    for (;;) {
        int fd = openat(log->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *directory = fd < 0 ? NULL : fdopendir(fd);
        if (directory == NULL)
            return;
        char oldest[NAME_MAX + 1] = "";
        size_t count = 1;
        for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
            if (strncmp(entry->d_name, log->name, length) != 0 || entry->d_name[length] != '.')
                continue;
            count++;
            if (oldest[0] == 0 || strcmp(entry->d_name, oldest) < 0)
                snprintf(oldest, sizeof oldest, "%s", entry->d_name);
        }
        bool removed = count > log->max_files && unlinkat(log->folder, oldest, 0) == 0;
        closedir(directory);
        if (!removed)
            return;
    }
}

// Give the full file a name of its own and begin a new one. What fails is tried again with the next
// batch; until then the old file grows.
static void rotate(struct log *log, time_t second) {
    char rotated[NAME_MAX + 1];
    struct tm date;
    log->rotations = second == log->rotated_at ? log->rotations + 1 : 0;
    log->rotated_at = second;
    gmtime_r(&second, &date);
    for (;; log->rotations++) {
        int size = snprintf(rotated, sizeof rotated, "%s", log->name);
        if (size < 0 || (size_t)size + SUFFIX_MAX > sizeof rotated)
            return;
        char *end = rotated + size;
        end += strftime(end, SUFFIX_MAX, ".%Y%m%d-%H%M%S", &date);
        if (log->rotations > 0)
            snprintf(end, SUFFIX_MAX / 2, ".%06u", log->rotations);
        if (syscall(SYS_renameat2, log->folder, log->name, log->folder, rotated, RENAME_NOREPLACE) == 0)
            break;
        if (errno != EEXIST)
            return;
    }
    int fd = open_file(log);
    if (fd < 0)
        return;
    close(log->fd);
    log->fd = fd;
    log->size = 0;
    prune(log);
}

// Write `size` bytes, all or nothing, as far as the file system lets us. False with the cause in errno.
static bool append(struct log *log, const char *data, size_t size) {
    size_t done = 0;
    while (done < size) {
        ssize_t written = write(log->fd, data + done, size - done);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0) {
            int cause = errno;
            if (done > 0 && ftruncate(log->fd, (off_t)log->size) < 0)
                log->size += done;
            errno = cause;
            return false;
        }
        done += (size_t)written;
    }
    log->size += size;
    return true;
}

static void stamp(struct log *log, const struct timespec *time, char *out) {
    if (log->second != time->tv_sec) {
        struct tm date;
        gmtime_r(&time->tv_sec, &date);
        strftime(log->time, sizeof log->time, "%Y-%m-%dT%H:%M:%S", &date);
        log->second = time->tv_sec;
    }
    memcpy(out, log->time, 19);
    out[19] = '.';
    long rest = time->tv_nsec;
    for (int digit = 28; digit > 19; digit--) {
        out[digit] = (char)('0' + rest % 10);
        rest /= 10;
    }
    out[29] = 'Z';
}

static void flush(struct log *log, const struct timespec *time) {
    if (log->used == 0)
        return;
    if (log->size > 0 && log->size + log->used > log->max_bytes)
        rotate(log, time->tv_sec);
    if (log->lost > 0) {
        char line[256];
        stamp(log, time, line);
        int size = snprintf(line + TIME_SIZE, sizeof line - TIME_SIZE, " stderr F %llu bytes of this log were lost: %s\n",
                            (unsigned long long)log->lost, strerror(log->cause));
        if (append(log, line, TIME_SIZE + (size_t)size))
            log->lost = 0;
    }
    if (log->lost > 0 || !append(log, log->batch, log->used)) {
        log->lost += log->used;
        log->cause = errno;
    }
    log->used = 0;
}

// Add one line, or piece of a line, of the held back text and `size` more bytes.
static void emit(struct log *log, enum stream stream, char tag, const unsigned char *data, size_t size,
                 const struct timespec *time) {
    size_t held = log->partial_size[stream];
    if (log->used + HEADER_SIZE + held + size + 1 > sizeof log->batch)
        flush(log, time);
    char *out = log->batch + log->used;
    stamp(log, time, out);
    memcpy(out + TIME_SIZE, stream == STREAM_STDOUT ? " stdout   " : " stderr   ", HEADER_SIZE - TIME_SIZE);
    out[HEADER_SIZE - 2] = tag;
    out += HEADER_SIZE;
    memcpy(out, log->partial[stream], held);
    if (size > 0)
        memcpy(out + held, data, size);
    out[held + size] = '\n';
    log->used += HEADER_SIZE + held + size + 1;
    log->partial_size[stream] = 0;
}

void log_write(struct log *log, enum stream stream, const unsigned char *data, size_t size) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    pthread_mutex_lock(&log->mutex);
    while (size > 0) {
        const unsigned char *newline = memchr(data, '\n', size);
        size_t length = newline != NULL ? (size_t)(newline - data) : size;
        size_t room = LOG_LINE_MAX - log->partial_size[stream];
        size_t taken = length;
        if (length > room) {
            taken = room;
            emit(log, stream, 'P', data, taken, &time);
        } else if (newline != NULL) {
            emit(log, stream, 'F', data, taken++, &time);
        } else {
            memcpy(log->partial[stream] + log->partial_size[stream], data, taken);
            log->partial_size[stream] += taken;
        }
        data += taken;
        size -= taken;
    }
    flush(log, &time);
    pthread_mutex_unlock(&log->mutex);
}

static void end_lines(struct log *log, char tag) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    for (int stream = STREAM_STDOUT; stream <= STREAM_STDERR; stream++)
        if (log->partial_size[stream] > 0)
            emit(log, (enum stream)stream, tag, NULL, 0, &time);
    flush(log, &time);
}

void log_break(struct log *log) {
    pthread_mutex_lock(&log->mutex);
    end_lines(log, 'F');
    pthread_mutex_unlock(&log->mutex);
}

void log_close(struct log *log) {
    pthread_mutex_lock(&log->mutex);
    end_lines(log, 'P'); // no newline followed, and none is to be shown
    close(log->fd);
    // Not unlocked: a thread of the library's that is about to log waits here for the process's end.
}
