#include "namespaces.h"

#include "children.h"
#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int files = -1, network = -1;

// It stays who it is; there is nobody else.
int namespaces_of_user(void) {
    char users[32], groups[32];
    snprintf(users, sizeof users, "%u %u 1", geteuid(), geteuid());
    snprintf(groups, sizeof groups, "%u %u 1", getegid(), getegid());
    if (unshare(CLONE_NEWUSER) < 0)
        return -1;
    // Whoever may leave groups could get at what these are kept from (user_namespaces(7)).
    bool is_told = kernel_tell("/proc/self/setgroups", "deny") && kernel_tell("/proc/self/uid_map", users) &&
                   kernel_tell("/proc/self/gid_map", groups);
    return is_told ? 0 : -1;
}

// A new root in the place of all that is mounted, on a directory that each system has; the old one is on top of it for
// a moment (pivot_root(2)).
int namespaces_no_files(void) {
    static const char anywhere[] = "/proc";
    const unsigned long flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("none", anywhere, "tmpfs", flags, "mode=0555,size=4k,nr_inodes=1") < 0 || chdir(anywhere) < 0)
        return -1;
    if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0)
        return -1;
    return chdir("/");
}

int namespaces_no_network(void) {
    return unshare(CLONE_NEWNET);
}

int namespaces_try_processes(void) {
    bool born;
    int status = 0;
    pid_t pid = child_fork(-1, true, &born);
    if (pid == 0)
        _exit(getpid() == 1 ? 0 : 1);
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return -1;
    errno = ENOSYS;
    return status == 0 ? 0 : -1;
}

static int open_namespace(pid_t pid, const char *name) {
    char path[48];
    snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)pid, name);
    return open(path, O_RDONLY | O_CLOEXEC);
}

// A child makes them, and stays until they are open here: from then on that keeps them.
const char *namespaces_make(bool with_files, bool with_network) {
    int talk[2];
    char made;
    if (!with_files && !with_network)
        return NULL;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, talk) < 0)
        return "making a socket";
    pid_t pid = fork();
    if (pid == 0) {
        close(talk[0]);
        if ((!with_files || namespaces_no_files() == 0) && (!with_network || namespaces_no_network() == 0) &&
            write(talk[1], "", 1) == 1)
            recv(talk[1], &made, 1, 0);
        _exit(0);
    }
    close(talk[1]);
    bool is_made = pid > 0 && read(talk[0], &made, 1) == 1;
    if (is_made && with_files)
        files = open_namespace(pid, "mnt");
    if (is_made && with_network)
        network = open_namespace(pid, "net");
    int cause = errno;
    close(talk[0]);
    if (pid > 0)
        waitpid(pid, NULL, 0);
    errno = cause;
    return is_made && (files >= 0 || !with_files) && (network >= 0 || !with_network) ? NULL : "making namespaces";
}

int namespaces_files(void) {
    return files;
}

int namespaces_network(void) {
    return network;
}

static int enter(int *namespace, int kind, bool wanted) {
    if (*namespace < 0)
        return 0;
    int entered = wanted ? setns(*namespace, kind) : 0;
    int cause = errno;
    close(*namespace);
    *namespace = -1;
    errno = cause;
    return entered;
}

int namespaces_enter_files(bool wanted) {
    return enter(&files, CLONE_NEWNS, wanted);
}

int namespaces_enter_network(bool wanted) {
    return enter(&network, CLONE_NEWNET, wanted);
}
