#include "seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define OUR_ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OUR_ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#error "the numbers of this architecture's system calls have to be looked at first"
#endif

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452 // since Linux 6.6
#endif

// On what it depends whether a call is allowed.
enum check {
    NEVER,
    YOUNG, // never too, but it fails as on a kernel that does not have it
    ANY,
    THREAD,    // a new thread, and no process or namespace
    OWN,       // a signal to the process itself
    NAME,      // of a thread or a mapping
    TERMINAL,  // what is asked of terminals, and whether it waits
    DUPLICATE, // a descriptor, and its flags
    NO_CODE,   // no memory that can be executed
    LIBRARY,   // the same, but for files: the C library loads those that look names up
    LOOK,      // at one's own limit
    FAMILY,    // the internet, and what addresses the machine has
    PAIR,      // two ends of one's own
};

enum when { ALWAYS, NETWORK };

struct rule {
    unsigned number;
    enum check check;
    enum when when;
};

static const struct rule rules[] = {
    // Files: what WASI has, what the log needs, and the container's own records.
    {SYS_read, ANY, ALWAYS},
    {SYS_readv, ANY, ALWAYS},
    {SYS_pread64, ANY, ALWAYS},
    {SYS_preadv, ANY, ALWAYS},
    {SYS_preadv2, ANY, ALWAYS},
    {SYS_write, ANY, ALWAYS},
    {SYS_writev, ANY, ALWAYS},
    {SYS_pwrite64, ANY, ALWAYS},
    {SYS_pwritev, ANY, ALWAYS},
    {SYS_pwritev2, ANY, ALWAYS},
    {SYS_lseek, ANY, ALWAYS},
    {SYS_openat, ANY, ALWAYS},
    {SYS_openat2, ANY, ALWAYS},
    {SYS_close, ANY, ALWAYS},
    {SYS_fcntl, DUPLICATE, ALWAYS},
    {SYS_dup, ANY, ALWAYS},
    {SYS_dup3, ANY, ALWAYS},
    {SYS_ioctl, TERMINAL, ALWAYS},
    {SYS_fstat, ANY, ALWAYS},
    {SYS_newfstatat, ANY, ALWAYS},
    {SYS_statx, ANY, ALWAYS},
    {SYS_statfs, ANY, ALWAYS},
    {SYS_fstatfs, ANY, ALWAYS},
    {SYS_faccessat, ANY, ALWAYS},
    {SYS_faccessat2, ANY, ALWAYS},
    {SYS_getdents64, ANY, ALWAYS},
    {SYS_mkdirat, ANY, ALWAYS},
    {SYS_unlinkat, ANY, ALWAYS},
    {SYS_symlinkat, ANY, ALWAYS},
    {SYS_readlinkat, ANY, ALWAYS},
    {SYS_linkat, ANY, ALWAYS},
    {SYS_renameat2, ANY, ALWAYS},
    {SYS_ftruncate, ANY, ALWAYS},
    {SYS_fallocate, ANY, ALWAYS},
    {SYS_fadvise64, ANY, ALWAYS},
    {SYS_fsync, ANY, ALWAYS},
    {SYS_fdatasync, ANY, ALWAYS},
    {SYS_fchmod, ANY, ALWAYS},
    {SYS_fchmodat, ANY, ALWAYS},
    {SYS_fchmodat2, ANY, ALWAYS},
    {SYS_utimensat, ANY, ALWAYS},
    {SYS_getcwd, ANY, ALWAYS},
#ifdef __x86_64__
    // The same by older numbers.
    {SYS_open, ANY, ALWAYS},
    {SYS_stat, ANY, ALWAYS},
    {SYS_lstat, ANY, ALWAYS},
    {SYS_access, ANY, ALWAYS},
    {SYS_readlink, ANY, ALWAYS},
    {SYS_dup2, ANY, ALWAYS},
    {SYS_rename, ANY, ALWAYS},
    {SYS_unlink, ANY, ALWAYS},
    {SYS_mkdir, ANY, ALWAYS},
    {SYS_rmdir, ANY, ALWAYS},
    {SYS_chmod, ANY, ALWAYS},
    {SYS_poll, ANY, ALWAYS},
    {SYS_epoll_wait, ANY, ALWAYS},
    {SYS_time, ANY, ALWAYS},
    {SYS_gettimeofday, ANY, ALWAYS},
    {SYS_renameat, ANY, ALWAYS},
#endif
    // Waiting.
    {SYS_ppoll, ANY, ALWAYS},
    {SYS_pselect6, ANY, ALWAYS},
    {SYS_epoll_create1, ANY, ALWAYS},
    {SYS_epoll_ctl, ANY, ALWAYS},
    {SYS_epoll_pwait, ANY, ALWAYS},
    {SYS_epoll_pwait2, ANY, ALWAYS},
    {SYS_eventfd2, ANY, ALWAYS},
    {SYS_futex, ANY, ALWAYS},
    {SYS_nanosleep, ANY, ALWAYS},
    {SYS_clock_nanosleep, ANY, ALWAYS},
    {SYS_clock_gettime, ANY, ALWAYS},
    {SYS_clock_getres, ANY, ALWAYS},
    {SYS_restart_syscall, ANY, ALWAYS},
    {SYS_sched_yield, ANY, ALWAYS},
    // Memory.
    {SYS_brk, ANY, ALWAYS},
    {SYS_mmap, NO_CODE, ALWAYS},
    {SYS_mmap, LIBRARY, NETWORK},
    {SYS_mprotect, NO_CODE, ALWAYS},
    {SYS_mremap, ANY, ALWAYS},
    {SYS_munmap, ANY, ALWAYS},
    {SYS_madvise, ANY, ALWAYS},
    {SYS_membarrier, ANY, ALWAYS},
    {SYS_getrandom, ANY, ALWAYS},
    // Threads, signals, and its own end.
    {SYS_clone, THREAD, ALWAYS},
    {SYS_set_robust_list, ANY, ALWAYS},
    {SYS_rseq, ANY, ALWAYS},
    {SYS_prctl, NAME, ALWAYS},
    {SYS_sched_getaffinity, ANY, ALWAYS},
    {SYS_getcpu, ANY, ALWAYS},
    {SYS_sigaltstack, ANY, ALWAYS},
    {SYS_rt_sigaction, ANY, ALWAYS},
    {SYS_rt_sigprocmask, ANY, ALWAYS},
    {SYS_rt_sigreturn, ANY, ALWAYS},
    {SYS_tgkill, OWN, ALWAYS},
    {SYS_exit, ANY, ALWAYS},
    {SYS_exit_group, ANY, ALWAYS},
    // Who and what it is.
    {SYS_getpid, ANY, ALWAYS},
    {SYS_gettid, ANY, ALWAYS},
    {SYS_getuid, ANY, ALWAYS},
    {SYS_geteuid, ANY, ALWAYS},
    {SYS_getgid, ANY, ALWAYS},
    {SYS_getegid, ANY, ALWAYS},
    {SYS_getgroups, ANY, ALWAYS},
    {SYS_prlimit64, LOOK, ALWAYS},
    {SYS_sysinfo, ANY, ALWAYS},
    {SYS_uname, ANY, ALWAYS},
    // Those who attach, on a socket that is there, and the runtime's own wake-up.
    {SYS_socketpair, PAIR, ALWAYS},
    {SYS_accept4, ANY, ALWAYS},
    {SYS_recvfrom, ANY, ALWAYS},
    {SYS_sendto, ANY, ALWAYS},
    {SYS_shutdown, ANY, ALWAYS},
    {SYS_getsockopt, ANY, ALWAYS},
    // The network.
    {SYS_socket, FAMILY, NETWORK},
    {SYS_bind, ANY, NETWORK},
    {SYS_listen, ANY, NETWORK},
    {SYS_connect, ANY, NETWORK},
    {SYS_getsockname, ANY, NETWORK},
    {SYS_getpeername, ANY, NETWORK},
    {SYS_setsockopt, ANY, NETWORK},
    {SYS_recvmsg, ANY, NETWORK},
    {SYS_sendmsg, ANY, NETWORK},
    {SYS_recvmmsg, ANY, NETWORK},
    {SYS_sendmmsg, ANY, NETWORK},
#ifdef SANITIZED
    // What a sanitizer's library does for itself.
    {SYS_sched_setaffinity, ANY, ALWAYS},
    {SYS_getrusage, ANY, ALWAYS},
    {SYS_kill, OWN, ALWAYS},
#endif
};

// From number 424 on all architectures have the same numbers, in the order of their age: all since Linux 5.1.
enum { YOUNGEST = 512, UNIFIED = 424, CODE = 1024 };

static struct filter {
    struct sock_filter code[CODE];
    size_t used;
    size_t own; // where the process itself is compared with
} filters[2];

static void emit(struct filter *filter, int operation, uint32_t operand, size_t yes, size_t no) {
    // More than fits is counted, and seen at the end; so is a jump that is too far.
    if (yes > UINT8_MAX || no > UINT8_MAX)
        filter->used = CODE;
    if (filter->used < CODE)
        filter->code[filter->used] =
            (struct sock_filter){(uint16_t)operation, (uint8_t)yes, (uint8_t)no, operand};
    filter->used += filter->used < CODE + 1;
}

static void load(struct filter *filter, size_t offset) {
    emit(filter, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

// The lower half of an argument. Both architectures are little endian.
static void load_argument(struct filter *filter, size_t index) {
    load(filter, offsetof(struct seccomp_data, args) + index * sizeof(uint64_t));
}

static void answer(struct filter *filter, uint32_t action) {
    emit(filter, BPF_RET | BPF_K, action, 0, 0);
}

static void refuse(struct filter *filter) {
    answer(filter, SECCOMP_RET_ERRNO | EPERM);
}

static void one_of(struct filter *filter, size_t index, const uint32_t *values, size_t count) {
    load_argument(filter, index);
    for (size_t i = 0; i < count; i++)
        emit(filter, BPF_JMP | BPF_JEQ | BPF_K, values[i], count - i, 0);
    refuse(filter);
    answer(filter, SECCOMP_RET_ALLOW);
}

#define ONE_OF(filter, index, ...)                                                                                     \
    do {                                                                                                               \
        static const uint32_t values[] = {__VA_ARGS__};                                                                \
        one_of(filter, index, values, sizeof values / sizeof *values);                                                 \
    } while (0)

static void thread(struct filter *filter) {
    const uint32_t needed = CLONE_VM | CLONE_THREAD | CLONE_SIGHAND;
    const uint32_t none = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |
                          CLONE_NEWNET;
    load_argument(filter, 0);
    emit(filter, BPF_ALU | BPF_AND | BPF_K, needed | none, 0, 0);
    emit(filter, BPF_JMP | BPF_JEQ | BPF_K, needed, 1, 0);
    refuse(filter);
    answer(filter, SECCOMP_RET_ALLOW);
}

static void no_code(struct filter *filter, bool files) {
    load_argument(filter, 2);
    emit(filter, BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, files ? 3 : 1);
    if (files) {
        load_argument(filter, 3);
        emit(filter, BPF_JMP | BPF_JSET | BPF_K, MAP_ANONYMOUS, 0, 1);
    }
    refuse(filter);
    answer(filter, SECCOMP_RET_ALLOW);
}

// No new limit is given: the pointer to it, of which both halves are looked at, is NULL.
static void look(struct filter *filter) {
    const size_t halves[] = {0, 2 * sizeof(uint64_t), 2 * sizeof(uint64_t) + sizeof(uint32_t)};
    for (size_t i = 0; i < 3; i++) {
        load(filter, offsetof(struct seccomp_data, args) + halves[i]);
        emit(filter, BPF_JMP | BPF_JEQ | BPF_K, 0, i < 2 ? 0 : 1, i < 2 ? 2 * (2 - i) : 0);
    }
    refuse(filter);
    answer(filter, SECCOMP_RET_ALLOW);
}

static void family(struct filter *filter) {
    load_argument(filter, 0);
    emit(filter, BPF_JMP | BPF_JEQ | BPF_K, AF_INET, 5, 0);
    emit(filter, BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 4, 0);
    emit(filter, BPF_JMP | BPF_JEQ | BPF_K, AF_NETLINK, 0, 2);
    load_argument(filter, 2);
    emit(filter, BPF_JMP | BPF_JEQ | BPF_K, NETLINK_ROUTE, 1, 0);
    refuse(filter);
    answer(filter, SECCOMP_RET_ALLOW);
}

static void decide(struct filter *filter, enum check check) {
    switch (check) {
    case NEVER:
        refuse(filter);
        return;
    case YOUNG:
        answer(filter, SECCOMP_RET_ERRNO | ENOSYS);
        return;
    case ANY:
        answer(filter, SECCOMP_RET_ALLOW);
        return;
    case THREAD:
        thread(filter);
        return;
    case OWN:
        filter->own = filter->used + 1; // behind the load
        ONE_OF(filter, 0, 0);
        return;
    case NAME:
        ONE_OF(filter, 0, PR_SET_NAME, PR_GET_NAME, PR_SET_VMA);
        return;
    case TERMINAL:
        ONE_OF(filter, 1, TCGETS, TCSETS, TCSETSW, TCSETSF, TCSBRK, TIOCGWINSZ, TIOCSWINSZ, TIOCGPTN, FIONREAD,
               FIONBIO, FIOCLEX);
        return;
    case DUPLICATE:
        ONE_OF(filter, 1, F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL);
        return;
    case NO_CODE:
        no_code(filter, false);
        return;
    case LIBRARY:
        no_code(filter, true);
        return;
    case LOOK:
        look(filter);
        return;
    case FAMILY:
        family(filter);
        return;
    case PAIR:
        ONE_OF(filter, 0, AF_UNIX);
        return;
    }
}

// Numbers from `first` up to the next range's have the same check.
struct range {
    unsigned first;
    enum check check;
};

// Find the range by halves: the kernel tries each number when a filter is installed, and each container installs one.
static void search(struct filter *filter, const struct range *ranges, size_t count) {
    if (count == 1) {
        decide(filter, ranges->check);
        return;
    }
    size_t half = count / 2, jump = filter->used;
    emit(filter, BPF_JMP | BPF_JGE | BPF_K, ranges[half].first, 0, 0);
    search(filter, ranges, half);
    size_t over = filter->used - jump - 1;
    if (over > UINT8_MAX || jump >= CODE)
        filter->used = CODE + 1;
    else
        filter->code[jump].jt = (uint8_t)over;
    search(filter, ranges + half, count - half);
}

static bool build(struct filter *filter, bool network) {
    static enum check checks[YOUNGEST + 1];
    static struct range ranges[YOUNGEST + 1];
    for (unsigned number = 0; number <= YOUNGEST; number++)
        checks[number] = number < UNIFIED ? NEVER : YOUNG;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (network || rules[i].when == ALWAYS)
            checks[rules[i].number] = rules[i].check;
    size_t count = 0;
    for (unsigned number = 0; number <= YOUNGEST; number++)
        if (number == 0 || checks[number] != checks[number - 1])
            ranges[count++] = (struct range){number, checks[number]};
    *filter = (struct filter){.used = 0};
    load(filter, offsetof(struct seccomp_data, arch));
    emit(filter, BPF_JMP | BPF_JEQ | BPF_K, OUR_ARCHITECTURE, 1, 0);
    answer(filter, SECCOMP_RET_KILL_PROCESS);
    load(filter, offsetof(struct seccomp_data, nr));
#ifdef __x86_64__
    // The x32 interface has this architecture's name, and numbers of its own from here on.
    emit(filter, BPF_JMP | BPF_JGE | BPF_K, __X32_SYSCALL_BIT, 0, 1);
    answer(filter, SECCOMP_RET_KILL_PROCESS);
#endif
    search(filter, ranges, count);
    return filter->used <= CODE;
}

bool seccomp_prepare(void) {
    return build(&filters[false], false) && build(&filters[true], true);
}

int seccomp_enter(bool network) {
    struct filter *filter = &filters[network];
    struct sock_fprog program = {(unsigned short)filter->used, filter->code};
    filter->code[filter->own].k = (uint32_t)getpid();
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0U, &program);
}
