#include "children.h"

#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { BUCKETS = 4096 };

static struct child *buckets[BUCKETS];
static size_t child_count;

static struct child **bucket(pid_t pid) {
    return &buckets[(unsigned)pid % BUCKETS];
}

// The C library has no fork() with a cgroup or a namespace. What its own does beyond the system call matters to
// processes with threads, but for one thing: it lets the kernel write the child's number to where the library keeps it.
pid_t child_fork(int cgroup, bool alone, bool *born) {
    uint64_t number = 0;
    *born = cgroup >= 0;
    if (prctl(PR_GET_TID_ADDRESS, &number) < 0) {
        *born = false;
        return fork();
    }
    struct clone_args arguments = {
        .flags = CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | (alone ? (uint64_t)CLONE_NEWPID : 0) |
                 (*born ? CLONE_INTO_CGROUP : 0),
        .child_tid = number,
        .exit_signal = SIGCHLD,
        .cgroup = *born ? (unsigned)cgroup : 0,
    };
    pid_t pid = (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
    if (pid >= 0 || errno == EAGAIN || errno == ENOMEM)
        return pid;
    // An older kernel, or one whose cgroup it is lets it in only later.
    return *born ? child_fork(-1, alone, born) : alone ? -1 : fork();
}

struct child *child_new(const char *id, uint64_t started_at, bool agents) {
    struct child *child = calloc(1, sizeof *child);
    if (child != NULL) {
        child->started_at = started_at;
        child->agents = agents;
        snprintf(child->id, sizeof child->id, "%s", id);
    }
    return child;
}

void child_add(struct child *child, pid_t pid) {
    child->pid = pid;
    child->next = *bucket(pid);
    *bucket(pid) = child;
    child_count++;
}

bool children_left(void) {
    return child_count > 0;
}

void children_end(void) {
    for (size_t i = 0; i < BUCKETS; i++)
        for (const struct child *child = buckets[i]; child != NULL; child = child->next)
            if (child->agents)
                kill(child->pid, SIGKILL);
}

struct child *child_take(pid_t pid) {
    for (struct child **at = bucket(pid); *at != NULL; at = &(*at)->next) {
        struct child *found = *at;
        if (found->pid == pid) {
            *at = found->next;
            child_count--;
            return found;
        }
    }
    return NULL;
}
