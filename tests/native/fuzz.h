// What fuzzers share: an input that is taken byte by byte, and what must hold whatever it is.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

struct input {
    const unsigned char *at, *end;
};

static inline void expect(bool holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

// 0 when there is no more.
static inline unsigned take_byte(struct input *input) {
    return input->at < input->end ? *input->at++ : 0;
}

// As many of `size` bytes as there are: `*taken` says how many.
static inline const unsigned char *take_bytes(struct input *input, size_t size, size_t *taken) {
    const unsigned char *start = input->at;
    size_t left = (size_t)(input->end - input->at);
    *taken = size < left ? size : left;
    input->at += *taken;
    return start;
}

// The number that the next file will have: the same again when all have been closed that were opened meanwhile.
static inline int next_descriptor(void) {
    int fd = dup(STDERR_FILENO);
    expect(fd >= 0 && close(fd) == 0, "no descriptor");
    return fd;
}
