#include "landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

// linux/landlock.h, of which compilers bring older versions than kernels know. These numbers are all architectures'.
enum { TARGET_SIZE = 4096 };
enum { CREATE_RULESET = 444, ADD_RULE = 445, RESTRICT_SELF = 446, ASK_VERSION = 1, PATH_BENEATH = 1 };
enum {
    EXECUTE = 1 << 0,
    WRITE_FILE = 1 << 1,
    READ_FILE = 1 << 2,
    READ_DIRECTORY = 1 << 3,
    REMOVE_DIRECTORY = 1 << 4,
    REMOVE_FILE = 1 << 5,
    MAKE_CHARACTER_DEVICE = 1 << 6,
    MAKE_DIRECTORY = 1 << 7,
    MAKE_REGULAR = 1 << 8,
    MAKE_SOCKET = 1 << 9,
    MAKE_PIPE = 1 << 10,
    MAKE_BLOCK_DEVICE = 1 << 11,
    MAKE_LINK = 1 << 12,
    MOVE = 1 << 13,            // since version 2
    TRUNCATE = 1 << 14,        // 3
    CONTROL_DEVICE = 1 << 15,  // 5
    TCP = 3,                   // 4: to bind and to connect
    SIGNALS_AND_ABSTRACT = 3,  // 6
};
enum {
    READ = READ_FILE | READ_DIRECTORY,
    MAKE = MAKE_REGULAR | MAKE_DIRECTORY | MAKE_LINK,
    WRITE = READ | WRITE_FILE | TRUNCATE | REMOVE_FILE | REMOVE_DIRECTORY | MAKE | MOVE,
    OF_A_FILE = EXECUTE | READ_FILE | WRITE_FILE | TRUNCATE | CONTROL_DEVICE,
};

struct ruleset {
    uint64_t files, network, scopes;
};

struct rule {
    uint64_t allowed;
    int32_t file;
} __attribute__((packed));

int landlock_version(void) {
    long version = syscall(CREATE_RULESET, NULL, 0UL, ASK_VERSION);
    return version > 0 ? (int)version : 0;
}

static uint64_t known(int version) {
    uint64_t all = 2 * (uint64_t)MOVE - 1;
    return all | (version >= 3 ? TRUNCATE : 0) | (version >= 5 ? CONTROL_DEVICE : 0);
}

static int allow(int ruleset, int file, uint64_t what) {
    struct stat status;
    if (fstat(file, &status) < 0)
        return -1;
    struct rule rule = {S_ISDIR(status.st_mode) ? what : what & OF_A_FILE, file};
    return (int)syscall(ADD_RULE, ruleset, PATH_BENEATH, &rule, 0U);
}

// What is not there need not be reached.
static int allow_path(int ruleset, const char *path) {
    int file = open(path, O_PATH | O_CLOEXEC);
    if (file < 0)
        return 0;
    int allowed = allow(ruleset, file, READ);
    int cause = errno;
    close(file);
    errno = cause;
    return allowed;
}

// What the C library looks names up with. Whoever makes resolv.conf makes another file in its place: the directory can be
// read too, if it is not all of /etc. There a new one is found by new containers only.
static int allow_lookup(int ruleset) {
    static const char resolver[] = "/etc/resolv.conf";
    static const char *const paths[] = {
        resolver,        "/etc/hosts",       "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf",
        "/etc/services", "/etc/ld.so.cache", "/lib",               "/lib64",         "/usr/lib",
        "/usr/lib64",    "/usr/local/lib",
    };
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        if (allow_path(ruleset, paths[i]) < 0)
            return -1;
    static char target[TARGET_SIZE];
    if (realpath(resolver, target) == NULL || strncmp(target, "/etc/", strlen("/etc/")) == 0)
        return 0;
    char *slash = strrchr(target, '/');
    *slash = 0;
    return slash == target ? 0 : allow_path(ruleset, target);
}

static int fill(int ruleset, uint64_t handled, const struct reach *reach, size_t count, bool network) {
    for (size_t i = 0; i < count; i++)
        if (allow(ruleset, reach[i].file, handled & (reach[i].writable ? WRITE : READ)) < 0)
            return -1;
    if (network && allow_lookup(ruleset) < 0)
        return -1;
    return (int)syscall(RESTRICT_SELF, ruleset, 0U);
}

int landlock_enter(const struct reach *reach, size_t count, bool network) {
    int version = landlock_version();
    if (version < 2) {
        errno = EOPNOTSUPP;
        return -1;
    }
    struct ruleset handled = {
        .files = known(version),
        .network = version >= 4 && !network ? TCP : 0,
        .scopes = version >= 6 ? SIGNALS_AND_ABSTRACT : 0,
    };
    int ruleset = (int)syscall(CREATE_RULESET, &handled, sizeof handled, 0U);
    if (ruleset < 0)
        return -1;
    int entered = fill(ruleset, handled.files, reach, count, network);
    int cause = errno;
    close(ruleset);
    errno = cause;
    return entered;
}
