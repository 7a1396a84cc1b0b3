#include "system.h"

#include "guest.h"
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { PATH_SIZE = 4096, MODE_BITS = 01777, KIND_AND_MODE = 0177777, GROUPS = 65536 };

static struct directory *directories;
static size_t directory_count;

bool system_directory(const char *host, const char *guest, bool writable) {
    struct directory *more = realloc(directories, (directory_count + 1) * sizeof *more);
    if (more == NULL)
        return false;
    directories = more;
    int fd = open(host, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return false;
    size_t length = strcmp(guest, "/") == 0 ? 0 : strlen(guest);
    directories[directory_count++] = (struct directory){guest, length, fd, writable};
    return true;
}

const struct directory *system_directories(size_t *count) {
    *count = directory_count;
    return directories;
}

static int32_t failure(void) {
    switch (errno) {
    case EACCES:
        return WASI_ACCES;
    case EINVAL:
        return WASI_INVAL;
    case ELOOP:
        return WASI_LOOP;
    case ENAMETOOLONG:
        return WASI_NAMETOOLONG;
    case ENOENT:
        return WASI_NOENT;
    case ENOTDIR:
        return WASI_NOTDIR;
    case EPERM:
        return WASI_PERM;
    case EROFS:
        return WASI_ROFS;
    case EXDEV:
        return WASI_NOTCAPABLE; // a way out of the directory, which WASI does not let a guest go either
    }
    return WASI_IO;
}

// The directory that the path is in: the one with the longest name, as WASI's libraries choose.
static const struct directory *directory_of(const char *path) {
    const struct directory *best = NULL;
    for (size_t i = 0; i < directory_count; i++) {
        const struct directory *candidate = &directories[i];
        if (strncmp(path, candidate->guest, candidate->length) == 0 &&
            (path[candidate->length] == '/' || path[candidate->length] == 0) &&
            (best == NULL || candidate->length >= best->length))
            best = candidate;
    }
    return best;
}

int system_open_beneath(int directory, const char *path, int flags) {
    struct open_how how = {.flags = (unsigned)flags, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, directory, path, &how, sizeof how);
}

// Open what the guest's path names, to ask of it or to change its mode. -1 with an errno of WASI in `failed`.
static int open_path(struct wasmtime_caller *caller, uint32_t at, uint32_t length, bool follow, bool to_change,
                     int32_t *failed) {
    static char path[PATH_SIZE];
    const uint8_t *given = guest_memory(caller, at, length);
    if (given == NULL || length == 0 || length >= sizeof path || given[0] != '/' ||
        memchr(given, 0, length) != NULL) {
        *failed = given == NULL ? WASI_FAULT : length >= sizeof path ? WASI_NAMETOOLONG : WASI_INVAL;
        return -1;
    }
    memcpy(path, given, length);
    path[length] = 0;
    const struct directory *directory = directory_of(path);
    if (directory == NULL || (to_change && !directory->writable)) {
        *failed = directory == NULL ? WASI_NOTCAPABLE : WASI_ROFS;
        return -1;
    }
    const char *inside = path + directory->length;
    inside += strspn(inside, "/");
    const int look = O_CLOEXEC | (follow ? 0 : O_NOFOLLOW), change = look | O_NONBLOCK | O_NOCTTY;
    inside = *inside ? inside : ".";
    // By its name the mode of any file could be changed, whatever the sandbox lets be opened: the filter of system calls
    // allows it only of one that is open, to be read or written.
    int fd = system_open_beneath(directory->fd, inside, to_change ? O_RDONLY | change : O_PATH | look);
    if (fd < 0 && errno == EACCES && to_change)
        fd = system_open_beneath(directory->fd, inside, O_WRONLY | change);
    if (fd < 0)
        *failed = failure();
    return fd;
}

static int32_t attributes(struct wasmtime_caller *caller, union wasmtime_val_raw *values) {
    int32_t failed = WASI_SUCCESS;
    uint32_t result = (uint32_t)values[3].i32;
    int fd =
        open_path(caller, (uint32_t)values[0].i32, (uint32_t)values[1].i32, values[2].i32 != 0, false, &failed);
    if (fd < 0)
        return failed;
    struct stat status;
    struct statfs kind;
    if (fstat(fd, &status) < 0 || fstatfs(fd, &kind) < 0)
        failed = failure();
    close(fd);
    if (failed != WASI_SUCCESS)
        return failed;
    const uint32_t told[] = {status.st_mode & KIND_AND_MODE, status.st_uid, status.st_gid, (uint32_t)kind.f_type};
    for (uint32_t i = 0; i < sizeof told / sizeof *told; i++)
        if (result > UINT32_MAX - sizeof told || !guest_put(caller, result + i * (uint32_t)sizeof *told, told[i]))
            return WASI_FAULT;
    return WASI_SUCCESS;
}

static int32_t space(struct wasmtime_caller *caller, union wasmtime_val_raw *values) {
    int32_t failed = WASI_SUCCESS;
    uint32_t result = (uint32_t)values[2].i32;
    int fd = open_path(caller, (uint32_t)values[0].i32, (uint32_t)values[1].i32, true, false, &failed);
    if (fd < 0)
        return failed;
    struct statfs found;
    if (fstatfs(fd, &found) < 0)
        failed = failure();
    close(fd);
    if (failed != WASI_SUCCESS)
        return failed;
    const uint64_t block = (uint64_t)found.f_frsize;
    const uint64_t told[] = {found.f_blocks * block, found.f_bfree * block, found.f_bavail * block};
    for (uint32_t i = 0; i < sizeof told / sizeof *told; i++)
        for (uint32_t half = 0; half < 2; half++) {
            uint32_t at = i * (uint32_t)sizeof *told + half * (uint32_t)sizeof half;
            if (result > UINT32_MAX - sizeof told || !guest_put(caller, result + at, (uint32_t)(told[i] >> 32 * half)))
                return WASI_FAULT;
        }
    return WASI_SUCCESS;
}

// A file that its owner would run as somebody else is nothing that a guest should make on its host.
static int32_t set_mode(struct wasmtime_caller *caller, union wasmtime_val_raw *values) {
    int32_t failed = WASI_SUCCESS;
    uint32_t mode = (uint32_t)values[2].i32;
    if ((mode & ~(uint32_t)MODE_BITS) != 0)
        return WASI_PERM;
    int fd = open_path(caller, (uint32_t)values[0].i32, (uint32_t)values[1].i32, true, true, &failed);
    if (fd < 0)
        return failed;
    if (fchmod(fd, mode) < 0)
        failed = failure();
    close(fd);
    return failed;
}

static int32_t identity(struct wasmtime_caller *caller, union wasmtime_val_raw *values) {
    static gid_t groups[GROUPS];
    uint32_t ids = (uint32_t)values[0].i32, capacity = (uint32_t)values[1].i32;
    int found = getgroups(GROUPS, groups);
    if (found < 0)
        return failure();
    uint32_t count = (uint32_t)found + 2;
    if (capacity > UINT32_MAX / sizeof(uint32_t) || guest_memory(caller, ids, capacity * sizeof(uint32_t)) == NULL)
        return WASI_FAULT;
    for (uint32_t i = 0; i < count && i < capacity; i++)
        guest_put(caller, ids + i * (uint32_t)sizeof(uint32_t),
                  i == 0 ? sandbox_user() : i == 1 ? getegid() : groups[i - 2]);
    return guest_put(caller, (uint32_t)values[2].i32, count) ? WASI_SUCCESS : WASI_FAULT;
}

static size_t on_attributes(void *data, struct wasmtime_caller *caller, union wasmtime_val_raw *values,
                            size_t count) {
    (void)data, (void)count;
    values[0].i32 = attributes(caller, values);
    return 0;
}

static size_t on_space(void *data, struct wasmtime_caller *caller, union wasmtime_val_raw *values, size_t count) {
    (void)data, (void)count;
    values[0].i32 = space(caller, values);
    return 0;
}

static size_t on_set_mode(void *data, struct wasmtime_caller *caller, union wasmtime_val_raw *values, size_t count) {
    (void)data, (void)count;
    values[0].i32 = set_mode(caller, values);
    return 0;
}

static size_t on_identity(void *data, struct wasmtime_caller *caller, union wasmtime_val_raw *values, size_t count) {
    (void)data, (void)count;
    values[0].i32 = identity(caller, values);
    return 0;
}

const char *system_define(struct wasmtime_linker *linker) {
    static const char module[] = "vkubelet_system";
    if (!guest_define(linker, module, "attributes", 4, 1, on_attributes) ||
        !guest_define(linker, module, "space", 3, 1, on_space) ||
        !guest_define(linker, module, "set_mode", 3, 1, on_set_mode) ||
        !guest_define(linker, module, "identity", 3, 1, on_identity))
        return "the functions for files and identities cannot be linked";
    return NULL;
}
