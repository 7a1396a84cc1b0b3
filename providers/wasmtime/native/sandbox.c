#include "sandbox.h"

#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static int no_new_privileges(void) {
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static int no_core_dumps(void) {
    return setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
}

// In the order in which they must happen: what a step needs, no step before it may take away.
static const struct {
    const char *name;
    int (*enter)(void);
} steps[] = {
    {"no core dumps", no_core_dumps},
    {"no new privileges", no_new_privileges},
};

const char *sandbox_enter(void) {
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        if (steps[i].enter() < 0)
            return steps[i].name;
    return NULL;
}
