// The launcher's one connection to an agent: lines and descriptors in, lines out.
#pragma once
#include <stdbool.h>
#include <stddef.h>

enum { LINE_MAX_SIZE = 256, INPUT_SIZE = 64 * 1024, OUTPUT_MAX = 1024 * 1024 };
enum { DESCRIPTORS = 3, DESCRIPTORS_MAX = 64 * DESCRIPTORS };

struct connection {
    int fd; // -1: no agent
    size_t input_used;
    size_t input_taken;
    char input[INPUT_SIZE];
    size_t output_used;
    size_t output_size;
    char *output;
    size_t descriptor_count;
    int descriptors[DESCRIPTORS_MAX]; // received with lines that were not taken yet, oldest first
    void (*on_close)(void);
};

// Take over a connected socket, in the place of the agent that was connected before.
void connection_open(struct connection *connection, int fd);

// Let go of the agent, if there is one, and tell.
void connection_close(struct connection *connection);

// Read what has come. An agent that is gone is let go of, and one that sends descriptors otherwise than
// DESCRIPTORS with a line, or more than DESCRIPTORS_MAX ahead of the lines that they belong to.
void connection_receive(struct connection *connection);

// The next whole line, without its newline, valid until the next call; NULL if there is none yet.
// An agent that sends a longer line than any message is let go of.
char *connection_line(struct connection *connection);

// Has it room for the descriptors of one more message?
bool connection_has_room(const struct connection *connection);

// Take the oldest descriptors that came, which the caller closes. False if there are none.
bool connection_descriptors(struct connection *connection, int taken[DESCRIPTORS]);

// Send one line, now or as soon as the agent reads. One that does not is let go of: it learns from the
// records what it has missed.
void connection_send(struct connection *connection, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Send what waits.
void connection_flush(struct connection *connection);
