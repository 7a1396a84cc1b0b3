// Writes a log: `write_log PATH MAX_BYTES MAX_FILES`, and on standard input what is logged, each piece as its
// stream (1 byte), its size (4 bytes, little endian) and its bytes. Stream 2 stands for a line's break, and
// stream 3 for as many threads as the size says, which log a hundred lines each at the same time.
#include "logs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct log log_file;

static void *log_lines(void *name) {
    char line[64];
    for (int i = 0; i < 100; i++) {
        int size = snprintf(line, sizeof line, "thread %zu line %d\n", *(size_t *)name, i);
        log_write(&log_file, i % 2 ? STREAM_STDOUT : STREAM_STDERR, (unsigned char *)line, (size_t)size);
    }
    return NULL;
}

static void log_from_threads(size_t count) {
    pthread_t threads[64];
    size_t names[64];
    for (size_t i = 0; i < count && i < 64; i++) {
        names[i] = i;
        if (pthread_create(&threads[i], NULL, log_lines, &names[i]) != 0)
            exit(3);
    }
    for (size_t i = 0; i < count && i < 64; i++)
        pthread_join(threads[i], NULL);
}

int main(int count, char **arguments) {
    if (count != 4 || !log_open(&log_file, arguments[1], strtoull(arguments[2], NULL, 10),
                                (unsigned)strtoul(arguments[3], NULL, 10)))
        return 2;
    for (;;) {
        unsigned char head[5];
        if (fread(head, 1, sizeof head, stdin) != sizeof head)
            break;
        size_t size = (size_t)head[1] | (size_t)head[2] << 8 | (size_t)head[3] << 16 | (size_t)head[4] << 24;
        if (head[0] == 2) {
            log_break(&log_file);
            continue;
        }
        if (head[0] == 3) {
            log_from_threads(size);
            continue;
        }
        unsigned char *data = malloc(size > 0 ? size : 1);
        if (data == NULL || fread(data, 1, size, stdin) != size)
            return 1;
        log_write(&log_file, head[0] == 0 ? STREAM_STDOUT : STREAM_STDERR, data, size);
        free(data);
    }
    log_close(&log_file);
    return 0;
}
