// A container that people attach to: its standard input or terminal, and a thread that joins it with them.
//
// It listens on the socket `attach.sock` in the container's directory. A client sends and gets packets; the
// first byte says what one is:
//
//   to the container                              from the container
//     0  standard input: the rest                   1  standard output: the rest
//     3  the terminal's size: rows and columns,     2  standard error: the rest
//        two bytes each in network order
//     4  no more input comes from here
//     5  no input ever comes from here: where input ends with the first client that goes, not with this one
//     6  input has ended for all
#pragma once
#include "logs.h"
#include "spec.h"

// Listen in the container's directory. A file descriptor, or -1 with the cause in errno.
int attach_listen(int directory);

// Make standard input, or with a terminal all standard files, for those who will connect to `listener`. What
// the terminal shows goes to `log` as standard output; if the spec says so, not before somebody has connected, for whom
// is waited ten seconds at most. NULL, or what failed with the cause in errno.
const char *attach_open(const struct spec *spec, int listener, struct log *log);

// Start the thread. False with the cause in errno.
bool attach_start(void);

// Pass on to clients what the guest wrote; returns when all have it, or were let go of because they took
// nothing for ten seconds. Without attach_start, or with a terminal, it does nothing.
void attach_write(enum stream stream, const unsigned char *data, size_t size);

// The guest has ended: log and pass on what it wrote last, and let go of the clients. Without attach_start it
// does nothing.
void attach_close(void);
