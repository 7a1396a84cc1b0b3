#include "sandbox.h"

#include "seccomp.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// What a process has open at most. Each file takes the kernel memory, and the node's own limit is high.
enum { FILES = 65536 };

struct request {
    const struct spec *spec;
    const struct reach *reach;
    size_t count;
};

static int few_resources(const struct request *request) {
    (void)request;
    struct rlimit files;
    if (setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}) < 0 || getrlimit(RLIMIT_NOFILE, &files) < 0)
        return -1;
    if (files.rlim_max > FILES)
        files.rlim_max = FILES;
    files.rlim_cur = files.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &files);
}

static int no_new_privileges(const struct request *request) {
    (void)request;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

// What a program could gain that it executes, if it could execute one; and root's number is no privilege.
static int no_capabilities_to_gain(const struct request *request) {
    (void)request;
    for (unsigned long capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
        if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0)
            return -1;
    return prctl(PR_SET_SECUREBITS,
                 SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
                     SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED,
                 0, 0, 0);
}

static int own_ipc(const struct request *request) {
    (void)request;
    return unshare(CLONE_NEWIPC);
}

// Who may change nothing of it is who it is: the agent has seen to it that nobody else was asked for.
static int its_identity(const struct request *request) {
    const struct spec *spec = request->spec;
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
static int few_capabilities(const struct request *request) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    if (syscall(SYS_capget, &header, data) < 0)
        return -1;
    uint32_t kept = 1U << CAP_FOWNER;
    if (!request->spec->has_read_only_file)
        kept |= 1U << CAP_DAC_OVERRIDE;
    if (request->spec->network)
        kept |= 1U << CAP_NET_BIND_SERVICE;
    for (size_t i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
        uint32_t mask = i == 0 ? kept : 0;
        data[i].permitted &= mask;
        data[i].effective &= mask;
        data[i].inheritable = 0;
    }
    return (int)syscall(SYS_capset, &header, data);
}

static int its_files(const struct request *request) {
    return landlock_enter(request->reach, request->count, request->spec->network);
}

static int its_calls(const struct request *request) {
    return seccomp_enter(request->spec->network);
}

// In the order in which they must happen: what a part needs, no part before it may take away.
static const struct {
    const char *name;
    int (*enter)(const struct request *request);
    bool may_lack;  // where the host does not allow it, containers run without it
    bool inherited; // by all that the launcher forks: it never executes anything either
} parts[] = {
    {"no-new-privs", no_new_privileges, false, true},
    {"bounding-set", no_capabilities_to_gain, true, true},
    {"rlimits", few_resources, false, false},
    {"ipc", own_ipc, true, false},
    {"identity", its_identity, false, false},
    {"capabilities", few_capabilities, false, false},
    {"landlock", its_files, true, false},
    {"seccomp", its_calls, true, false},
};
enum { PARTS = sizeof parts / sizeof *parts, NOT_REACHED = ECHILD };

static int refused[PARTS]; // an errno, and 0 for what this host allows

// All that is, or is not, inherited. NULL, or the name of the part that failed.
static const char *enter(const struct request *request, bool inherited) {
    for (size_t i = 0; i < PARTS; i++)
        if (parts[i].inherited == inherited && !(parts[i].may_lack && refused[i] != 0) && parts[i].enter(request) < 0)
            return parts[i].name;
    return NULL;
}

const char *sandbox_find(void) {
    static const struct spec spec = {.memory_limit = -1};
    int status;
    if (!seccomp_prepare()) {
        errno = E2BIG;
        return "making the filters of system calls";
    }
    int *found = mmap(NULL, sizeof refused, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (found == MAP_FAILED)
        return "mapping memory";
    for (size_t i = 0; i < PARTS; i++)
        found[i] = NOT_REACHED;
    pid_t pid = fork();
    if (pid == 0) {
        for (size_t i = 0; i < PARTS; i++)
            found[i] = parts[i].enter(&(struct request){.spec = &spec}) < 0 ? errno : 0;
        _exit(0);
    }
    bool waited = pid > 0 && waitpid(pid, &status, 0) == pid;
    memcpy(refused, found, sizeof refused);
    munmap(found, sizeof refused);
    return waited ? enter(&(struct request){.spec = &spec}, true) : "trying the sandbox";
}

void sandbox_tell(FILE *out) {
    for (size_t i = 0; i < PARTS; i++) {
        if (parts[i].enter == its_identity)
            continue; // which it has if the spec says so
        if (refused[i] != 0)
            fprintf(out, "- %s %s\n", parts[i].name, strerror(refused[i]));
        else if (parts[i].enter == its_files)
            fprintf(out, "%s-%d\n", parts[i].name, landlock_version());
        else
            fprintf(out, "%s\n", parts[i].name);
    }
}

const char *sandbox_enter(const struct spec *spec, const struct reach *reach, size_t count) {
    return enter(&(struct request){spec, reach, count}, false);
}
