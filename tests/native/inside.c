// Tries from inside the sandbox what a guest could that has broken out of WebAssembly.
//
//     inside MODE OWN READ OUTSIDE VICTIM
//
// OWN is a directory that it may write to and READ one that it may read, OUTSIDE a file that it must not see, and
// VICTIM a process that is not its business, which listens on the abstract socket vkubelet-VICTIM. MODE is `closed`;
// `network`, for one that may use that; `landlock`, for what Landlock alone refuses; `namespaces`, for what is not there
// in these alone; `old` or `x32`, for a call by the numbers of another architecture, which ends it. What came of each
// try is a line of its name and an errno, 0 if it could be done.
#include "children.h"
#include "namespaces.h"
#include "sandbox.h"
#include "seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <linux/netlink.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { IO_URING_SETUP = 425, PIDFD_OPEN = 434, CLONE3 = 435, PIDFD_GETFD = 438, LATER = 511 };

static const char *own, *outside;
static int own_file, readable_file;
static pid_t victim;

static void tell(const char *name, long result) {
    printf("%s %d\n", name, result < 0 ? errno : 0);
}

static void *do_nothing(void *unused) {
    return unused;
}

static long new_thread(void) {
    pthread_t thread;
    errno = pthread_create(&thread, NULL, do_nothing, NULL);
    return errno != 0 ? -1 : pthread_join(thread, NULL);
}

static long map(int file, int protection) {
    int flags = MAP_PRIVATE | (file < 0 ? MAP_ANONYMOUS : 0);
    return mmap(NULL, 4096, protection, flags, file, 0) == MAP_FAILED ? -1 : 0;
}

static long make_code(void) {
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return page == MAP_FAILED ? -1 : mprotect(page, 4096, PROT_READ | PROT_EXEC);
}

static long connect_inet(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(1)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return client < 0 ? -1 : connect(client, (struct sockaddr *)&address, sizeof address);
}

static long look_up(void) {
    struct addrinfo *found = NULL;
    int wrong = getaddrinfo("localhost", NULL, NULL, &found);
    errno = wrong != 0 ? ENOENT : 0;
    return wrong != 0 ? -1 : 0;
}

static void files(void) {
    tell("write-own", openat(own_file, "made", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    tell("mkdir-own", mkdirat(own_file, "directory", 0700));
    tell("move-own", renameat(own_file, "made", own_file, "directory/moved"));
    tell("read-readable", openat(readable_file, "file", O_RDONLY | O_CLOEXEC));
    tell("write-readable", openat(readable_file, "file", O_WRONLY | O_CLOEXEC));
    tell("create-readable", openat(readable_file, "made", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    tell("remove-readable", unlinkat(readable_file, "file", 0));
    tell("read-outside", open(outside, O_RDONLY | O_CLOEXEC));
    tell("read-through-own", openat(own_file, "../outside/secret", O_RDONLY | O_CLOEXEC));
    tell("read-init", open("/proc/1/environ", O_RDONLY | O_CLOEXEC));
    tell("read-victim", open("/proc/self/../1/status", O_RDONLY | O_CLOEXEC));
    tell("read-passwd", open("/etc/passwd", O_RDONLY | O_CLOEXEC));
    tell("list-root", open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    tell("read-device", open("/dev/zero", O_RDONLY | O_CLOEXEC));
}

static void calls(char **arguments) {
    tell("execve", execve("/proc/self/exe", arguments, NULL));
    tell("fork", syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
    tell("thread", new_thread());
    tell("ptrace", ptrace(PTRACE_SEIZE, victim, NULL, NULL));
    tell("process_vm_readv", syscall(SYS_process_vm_readv, victim, NULL, 0, NULL, 0, 0));
    tell("kill", kill(victim, 0));
    tell("tgkill", syscall(SYS_tgkill, victim, victim, 0));
    tell("tgkill-own", syscall(SYS_tgkill, getpid(), getpid(), 0));
    tell("pidfd_open", syscall(PIDFD_OPEN, victim, 0));
    tell("pidfd_getfd", syscall(PIDFD_GETFD, 0, 0, 0));
    tell("mount", mount("none", own, "tmpfs", 0, NULL));
    tell("umount", umount2("/proc", MNT_DETACH));
    tell("unshare", unshare(CLONE_NEWUSER));
    tell("setns", setns(0, 0));
    tell("chroot", chroot("/"));
    tell("chmod", chmod(outside, 0777));
    tell("chmodat", fchmodat(AT_FDCWD, outside, 0777, 0));
    tell("chown", chown(outside, getuid(), getgid()));
    tell("truncate", truncate(outside, 0));
    tell("mknod", mknodat(own_file, "device", S_IFCHR | 0600, 0x0103));
    tell("setuid", syscall(SYS_setresuid, 0, 0, 0));
    tell("setgroups", syscall(SYS_setgroups, 0, NULL));
    tell("capset", syscall(SYS_capset, NULL, NULL));
    tell("bpf", syscall(SYS_bpf, 0, NULL, 0));
    tell("keyctl", syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0));
    tell("perf_event_open", syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0));
    tell("userfaultfd", syscall(SYS_userfaultfd, 0));
    tell("memfd_create", syscall(SYS_memfd_create, "code", 0));
    tell("shmget", syscall(SYS_shmget, 1, 4096, 01600));
    tell("io_uring", syscall(IO_URING_SETUP, 1, NULL));
    tell("clone3", syscall(CLONE3, NULL, 0));
    tell("later", syscall(LATER));
    tell("prctl", prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
    tell("tiocsti", ioctl(STDIN_FILENO, TIOCSTI, "x"));
    tell("setowner", fcntl(STDIN_FILENO, F_SETOWN, victim));
    tell("raise-limit", setrlimit(RLIMIT_NOFILE, &(struct rlimit){1 << 20, 1 << 20}));
    tell("map-data", map(-1, PROT_READ | PROT_WRITE));
    tell("map-code", map(-1, PROT_READ | PROT_EXEC));
    tell("map-library", map(openat(readable_file, "file", O_RDONLY | O_CLOEXEC), PROT_READ | PROT_EXEC));
    tell("make-code", make_code());
}

static void sockets(void) {
    tell("socket-inet", socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    tell("socket-unix", socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    tell("socket-packet", socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
    tell("socket-route", socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    tell("socket-audit", socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_AUDIT));
    tell("connect", connect_inet());
    tell("look-up", look_up());
}

static void by_landlock(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int length = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "vkubelet-%d", (int)victim);
    size_t size = offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length;
    int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    files();
    tell("execve", execve("/bin/true", (char *[]){NULL}, NULL));
    tell("kill", kill(victim, 0));
    tell("connect", connect_inet());
    tell("connect-abstract", connect(client, (struct sockaddr *)&address, (socklen_t)size));
}

// A sanitizer would look for leaks in another process, which is not to be had here.
static int end(void) {
    fflush(stdout);
    _exit(0);
}

// The first process of a namespace, as a container's is.
static int by_namespaces(void) {
    bool born;
    int status;
    if (geteuid() != 0 && namespaces_of_user() < 0)
        return 3;
    pid_t pid = child_fork(-1, true, &born);
    if (pid != 0)
        return waitpid(pid, &status, 0) == pid ? WEXITSTATUS(status) : 3;
    if (namespaces_no_network() < 0 || namespaces_no_files() < 0)
        return 3;
    files();
    tell("execve", execve("/bin/true", (char *[]){NULL}, NULL));
    tell("kill", kill(victim, 0));
    tell("connect", connect_inet());
    return end();
}

static void other_numbers(const char *mode) {
#ifdef __x86_64__
    if (strcmp(mode, "x32") == 0)
        syscall(0x40000000 | SYS_getpid);
    else
        __asm__ volatile("int $0x80" : : "a"(20) : "memory");
#else
    (void)mode;
    raise(SIGSYS);
#endif
}

int main(int count, char **arguments) {
    if (count != 6)
        return 2;
    const char *mode = arguments[1];
    own = arguments[2], outside = arguments[4], victim = atoi(arguments[5]);
    own_file = open(own, O_PATH | O_CLOEXEC), readable_file = open(arguments[3], O_PATH | O_CLOEXEC);
    struct spec spec = {.memory_limit = -1, .network = strcmp(mode, "network") == 0};
    struct reach reach[] = {{own_file, true}, {readable_file, false}};
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    if (strcmp(mode, "landlock") == 0) {
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        if (landlock_enter(reach, 2, false) < 0)
            return 3;
        by_landlock();
        return end();
    }
    if (strcmp(mode, "namespaces") == 0)
        return by_namespaces();
    const char *wrong = sandbox_find();
    if (wrong == NULL)
        wrong = sandbox_enter(&spec, reach, 2);
    if (wrong != NULL) {
        perror(wrong);
        return 3;
    }
    if (strcmp(mode, "old") == 0 || strcmp(mode, "x32") == 0) {
        other_numbers(mode);
        return 4;
    }
    files();
    calls(arguments);
    sockets();
    return end();
}
