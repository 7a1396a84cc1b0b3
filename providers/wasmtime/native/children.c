#include "children.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { BUCKETS = 4096 };

static struct child *buckets[BUCKETS];

static struct child **bucket(pid_t pid) {
    return &buckets[(unsigned)pid % BUCKETS];
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
            return found;
        }
    }
    return NULL;
}
