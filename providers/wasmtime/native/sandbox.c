#include "sandbox.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static int no_new_privileges(const struct spec *spec) {
    (void)spec;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static int no_core_dumps(const struct spec *spec) {
    (void)spec;
    return setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
}

// Who may change nothing of it is who it is: the agent has seen to it that nobody else was asked for.
static int its_identity(const struct spec *spec) {
    if (spec->identity_count == 0)
        return 0;
    uid_t user = spec->identity[0];
    gid_t group = spec->identity[1];
    bool is_own = user == geteuid() && group == getegid();
    if (setgroups(spec->identity_count - 2, spec->identity + 2) < 0 && !(is_own && errno == EPERM))
        return -1;
    return setresgid(group, group, group) < 0 ? -1 : setresuid(user, user, user);
}

// Of root's privileges a guest can use those over files, since it runs as root, and over ports. The first would let
// it write to files that it was given to read.
static int few_capabilities(const struct spec *spec) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    if (syscall(SYS_capget, &header, data) < 0)
        return -1;
    uint32_t kept = 1U << CAP_FOWNER | 1U << CAP_NET_BIND_SERVICE;
    if (!spec->has_read_only_file)
        kept |= 1U << CAP_DAC_OVERRIDE;
    for (size_t i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
        uint32_t mask = i == 0 ? kept : 0;
        data[i].permitted &= mask;
        data[i].effective &= mask;
        data[i].inheritable = 0;
    }
    return (int)syscall(SYS_capset, &header, data);
}

// In the order in which they must happen: what a step needs, no step before it may take away.
static const struct {
    const char *name;
    int (*enter)(const struct spec *spec);
} steps[] = {
    {"no core dumps", no_core_dumps},
    {"no new privileges", no_new_privileges},
    {"its user and groups", its_identity},
    {"few capabilities", few_capabilities},
};

const char *sandbox_enter(const struct spec *spec) {
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        if (steps[i].enter(spec) < 0)
            return steps[i].name;
    return NULL;
}
