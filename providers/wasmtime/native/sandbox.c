#include "sandbox.h"

#include "namespaces.h"
#include "records.h"
#include "seccomp.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// What a process has open at most. Each file takes the kernel memory, and the node's own limit is high.
enum { FILES = 65536 };

// To these numbers those of processes are added: nobody gives users such ones (systemd's UIDS-GIDS.md).
enum { OWN_USERS = 0x70000000 };

struct request {
    const struct spec *spec;
    const struct reach *reach;
    size_t count;
    bool is_trial;
};

static uid_t user; // whom files take this process for

// Root's launcher makes namespaces as root.
static int own_privileges(const struct request *request) {
    (void)request;
    return geteuid() == 0 ? 0 : namespaces_of_user();
}

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

// What a program could gain that it executes, if it could execute one; and a user's number gives and takes no privilege.
static int no_capabilities_to_gain(const struct request *request) {
    (void)request;
    for (unsigned long capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
        if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0)
            return -1;
    return prctl(PR_SET_SECUREBITS,
                 SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED |
                     SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED,
                 0, 0, 0);
}

static int own_ipc(const struct request *request) {
    (void)request;
    return unshare(CLONE_NEWIPC);
}

// One view of no files and one of no network is enough for all.
static int no_files(const struct request *request) {
    return request->is_trial ? namespaces_no_files() : namespaces_enter_files(!request->spec->network);
}

static int no_network(const struct request *request) {
    return request->is_trial ? namespaces_no_network() : namespaces_enter_network(!request->spec->network);
}

// A container's process was born there.
static int no_processes(const struct request *request) {
    return request->is_trial ? namespaces_try_processes() : 0;
}

// Who may change nothing of it is who it is: the agent has seen to it that nobody else was asked for.
static int its_identity(const struct request *request) {
    const struct spec *spec = request->spec;
    user = geteuid();
    if (spec->identity_count == 0)
        return 0;
    gid_t group = spec->identity[1];
    bool is_own = spec->identity[0] == user && group == getegid();
    user = spec->identity[0];
    if (setgroups(spec->identity_count - 2, spec->identity + 2) < 0 && !(is_own && errno == EPERM))
        return -1;
    return setresgid(group, group, group) < 0 ? -1 : setresuid(user, user, user);
}

// Have them read into `data`, or set by it (capset(2)).
static int capabilities(long call, struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3]) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    return (int)syscall(call, &header, data);
}

// What the agent needs to end another user's process, and to see what it listens on; what the process itself needs to
// stay root to files.
static bool may_have_users(void) {
    const uint32_t needed = 1U << CAP_KILL | 1U << CAP_SYS_PTRACE | 1U << CAP_SETUID;
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    return user == 0 && capabilities(SYS_capget, data) == 0 && (data[0].effective & needed) == needed &&
           (prctl(PR_GET_SECUREBITS) & SECBIT_NO_SETUID_FIXUP) != 0;
}

// Whom nobody made another than root is that to files alone: what it makes is root's, as a kubelet's containers have
// it, but to all else it is a user that there is only once.
static int own_user(const struct request *request) {
    uid_t own = OWN_USERS + (uid_t)process_number();
    if (user != 0 && !request->is_trial)
        return 0;
    if (request->is_trial && !may_have_users()) {
        errno = EPERM;
        return -1;
    }
    if (setresuid(own, own, own) < 0)
        return -1;
    setfsuid(0);
    if (setfsuid((uid_t)-1) == 0)
        return 0;
    errno = EPERM;
    return -1;
}

// Of root's privileges a guest can use those over files, since it runs as root, and over ports. The first would let
// it write to files that it was given to read.
static int few_capabilities(const struct request *request) {
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    if (capabilities(SYS_capget, data) < 0)
        return -1;
    uint32_t kept = 1U << CAP_FOWNER;
    if (!request->spec->has_read_only_file)
        kept |= 1U << CAP_DAC_OVERRIDE;
    if (request->spec->network)
        kept |= 1U << CAP_NET_BIND_SERVICE;
    if (user != 0)
        kept = 0;
    for (size_t i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
        uint32_t mask = i == 0 ? kept : 0;
        data[i].permitted &= mask;
        data[i].effective &= mask;
        data[i].inheritable = 0;
    }
    return capabilities(SYS_capset, data);
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
    {"userns", own_privileges, true, true},
    {"no-new-privs", no_new_privileges, false, true},
    {"bounding-set", no_capabilities_to_gain, true, true},
    {"rlimits", few_resources, false, false},
    {"ipc", own_ipc, true, false},
    {"pid", no_processes, true, false},
    {"network", no_network, true, false},
    {"mount", no_files, true, false},
    {"identity", its_identity, false, false},
    {"user", own_user, true, false},
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

static bool is_allowed(int (*part)(const struct request *request)) {
    for (size_t i = 0; i < PARTS; i++)
        if (parts[i].enter == part)
            return refused[i] == 0;
    return false;
}

const char *sandbox_find(void) {
    static const struct spec spec = {.memory_limit = -1};
    const struct request trial = {.spec = &spec, .is_trial = true};
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
            found[i] = parts[i].enter(&trial) < 0 ? errno : 0;
        _exit(0);
    }
    bool waited = pid > 0 && waitpid(pid, &status, 0) == pid;
    memcpy(refused, found, sizeof refused);
    munmap(found, sizeof refused);
    const char *wrong = waited ? enter(&(struct request){.spec = &spec}, true) : "trying the sandbox";
    return wrong != NULL ? wrong : namespaces_make(is_allowed(no_files), is_allowed(no_network));
}

bool sandbox_is_alone(void) {
    return is_allowed(no_processes);
}

uid_t sandbox_user(void) {
    return user;
}

void sandbox_tell(FILE *out) {
    for (size_t i = 0; i < PARTS; i++) {
        if (parts[i].enter == its_identity || (parts[i].enter == own_privileges && geteuid() == 0))
            continue; // which it has if the spec says so; which root does not need
        if (refused[i] != 0)
            fprintf(out, "- %s %s\n", parts[i].name, strerror(refused[i]));
        else if (parts[i].enter == its_files)
            fprintf(out, "%s-%d\n", parts[i].name, landlock_version());
        else
            fprintf(out, "%s\n", parts[i].name);
    }
}

const char *sandbox_enter(const struct spec *spec, const struct reach *reach, size_t count) {
    return enter(&(struct request){.spec = spec, .reach = reach, .count = count}, false);
}
