// A container's log in the CRI format, rotated by the process that writes it.
//
// Every line is `TIME STREAM TAG text`: RFC 3339 time in UTC with nanoseconds, `stdout` or `stderr`, and
// `F` or, for a piece of a line longer than LINE_MAX bytes, `P`. What has no newline yet is held back.
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

enum { LOG_LINE_MAX = 16 * 1024, LOG_BATCH = 64 * 1024 };
enum stream { STREAM_STDOUT, STREAM_STDERR };

struct log {
    pthread_mutex_t mutex; // a component's host calls come from more than one thread
    int folder;
    const char *name;
    int fd;
    uint64_t size;
    uint64_t max_bytes;
    unsigned max_files;
    time_t rotated_at;
    unsigned rotations; // within the second `rotated_at`
    uint64_t lost;      // bytes that could not be written since the last that could
    int cause;          // errno of that
    time_t second;      // the one that `time` was formatted for
    char time[20];
    size_t partial_size[2];
    unsigned char partial[2][LOG_LINE_MAX];
    size_t used;
    char batch[LOG_BATCH];
};

// Open the log at `path`, which must outlive it, and go on at its end. Its directory stays open: to rotate the log,
// nothing above it need be accessible. False with the cause in errno.
bool log_open(struct log *log, const char *path, uint64_t max_bytes, unsigned max_files);

// Log what a guest wrote. Never fails: if the file cannot be written (disk full), the text is lost, and
// the log says how much was as soon as it can be written again.
void log_write(struct log *log, enum stream stream, const unsigned char *data, size_t size);

// Write what was held back, as if a newline had followed.
void log_break(struct log *log);

// Write what was held back, and close the file.
void log_close(struct log *log);
