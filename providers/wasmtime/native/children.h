// The launcher's children: which process is which container.
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { ID_LENGTH = 64 };

struct child {
    struct child *next;
    pid_t pid;
    uint64_t started_at;
    bool agents; // it ends with the agent that asked for it
    char id[ID_LENGTH + 1];
};

// fork(2), with the child born in a cgroup of version 2 if `cgroup`, a directory, is one: to move there later, it
// would have to wait for all processes of the machine. Sets `*born` if it was. With `alone` it is the first process of
// a namespace. The caller must have one thread.
pid_t child_fork(int cgroup, bool alone, bool *born);

// Room for a child, to be added once it has a pid; NULL if there is no memory.
struct child *child_new(const char *id, uint64_t started_at, bool agents);

// Remember a child under its pid.
void child_add(struct child *child, pid_t pid);

// Kill those that end with the agent; they are reaped as all others are.
void children_end(void);

// Whether there is any.
bool children_left(void);

// Find and forget the child of this pid; the caller frees it. NULL if there is none.
struct child *child_take(pid_t pid);
