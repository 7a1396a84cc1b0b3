// What an agent asks of the launcher with one line; launcher.c says what the lines are.
#pragma once
#include <stdbool.h>

enum verb { SHUT_DOWN, START, SERVE, RUN };

struct request {
    enum verb verb;
    const char *number; // how the agent knows the answer: at most 19 digits; NULL for SHUT_DOWN
    const char *id;     // of a container; NULL for SHUT_DOWN
};

// Take the line apart, into which the request then points. False if it is none: whoever sent it is no agent of this
// launcher.
bool request_parse(char *line, struct request *request);
