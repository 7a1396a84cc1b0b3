// The launcher's one connection to an agent: lines in, lines out.
#pragma once
#include <stdbool.h>
#include <stddef.h>

enum { LINE_MAX_SIZE = 256, INPUT_SIZE = 64 * 1024, OUTPUT_MAX = 1024 * 1024 };

struct connection {
    int fd; // -1: no agent
    size_t input_used;
    size_t input_taken;
    char input[INPUT_SIZE];
    size_t output_used;
    size_t output_size;
    char *output;
};

// Take over a connected socket, in the place of the agent that was connected before.
void connection_open(struct connection *connection, int fd);

// Let go of the agent, if there is one.
void connection_close(struct connection *connection);

// Read what has come. An agent that is gone is let go of.
void connection_receive(struct connection *connection);

// The next whole line, without its newline, valid until the next call; NULL if there is none yet.
// An agent that sends a longer line than any message is let go of.
char *connection_line(struct connection *connection);

// Send one line, now or as soon as the agent reads. One that does not is let go of: it learns from the
// records what it has missed.
void connection_send(struct connection *connection, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Send what waits.
void connection_flush(struct connection *connection);
