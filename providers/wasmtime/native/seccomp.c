#include "seccomp.h"

#include "calls.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <sched.h>
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

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#endif

// From number 424 on all architectures have the same numbers, in the order of their age: all since Linux 5.1.
// The x32 interface has the name of x86_64, and numbers of its own from its bit on; there is nothing else up there.
enum { YOUNGEST = 512, UNIFIED = 424, OTHER_INTERFACE = 0x40000000, CODE = 1024 };

// A program is made from its end: jumps lead forward only, and so to what is there already. A place in it is told by
// how much there is from there to the end.
static struct filter {
    struct sock_filter code[CODE];
    size_t used; // more than CODE if it cannot be made
    size_t own;  // the place where the process itself is compared with
    size_t allowed, refused;
    size_t decided[LAST_CHECK + 1]; // the places where it is decided by a check; 0 for none
} filters[2];

static size_t emit(struct filter *filter, int operation, uint32_t operand, size_t yes, size_t no) {
    if (yes > UINT8_MAX || no > UINT8_MAX || filter->used >= CODE) {
        filter->used = CODE + 1;
        return filter->used;
    }
    filter->used++;
    filter->code[CODE - filter->used] =
        (struct sock_filter){(uint16_t)operation, (uint8_t)yes, (uint8_t)no, operand};
    return filter->used;
}

static size_t answer(struct filter *filter, uint32_t action) {
    return emit(filter, BPF_RET | BPF_K, action, 0, 0);
}

static size_t load(struct filter *filter, size_t offset) {
    return emit(filter, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

// The lower half of an argument. Both architectures are little endian.
static size_t load_argument(struct filter *filter, size_t index) {
    return load(filter, offsetof(struct seccomp_data, args) + index * sizeof(uint64_t));
}

// Go on at one of two places; what was emitted last is `filter->used`.
static size_t jump(struct filter *filter, int comparison, uint32_t operand, size_t yes, size_t no) {
    return emit(filter, BPF_JMP | BPF_K | comparison, operand, filter->used - yes, filter->used - no);
}

static size_t one_of(struct filter *filter, size_t index, const uint32_t *values, size_t count) {
    for (size_t i = 0; i < count; i++)
        jump(filter, BPF_JEQ, values[i], filter->allowed, i == 0 ? filter->refused : filter->used);
    return load_argument(filter, index);
}

static size_t thread(struct filter *filter) {
    const uint32_t needed = CLONE_VM | CLONE_THREAD | CLONE_SIGHAND;
    const uint32_t none = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |
                          CLONE_NEWNET;
    jump(filter, BPF_JEQ, needed, filter->allowed, filter->refused);
    emit(filter, BPF_ALU | BPF_AND | BPF_K, needed | none, 0, 0);
    return load_argument(filter, 0);
}

static size_t no_code(struct filter *filter, bool but_files) {
    size_t code = filter->refused;
    if (but_files) {
        jump(filter, BPF_JSET, MAP_ANONYMOUS, filter->refused, filter->allowed);
        code = load_argument(filter, 3);
    }
    jump(filter, BPF_JSET, PROT_EXEC, code, filter->allowed);
    return load_argument(filter, 2);
}

// One's own, and no new one is given: the pointer to that, of which both halves are looked at, is NULL.
static size_t look(struct filter *filter) {
    static const size_t zero[] = {2 * sizeof(uint64_t) + sizeof(uint32_t), 2 * sizeof(uint64_t), 0};
    for (size_t i = 0; i < sizeof zero / sizeof *zero; i++) {
        jump(filter, BPF_JEQ, 0, i == 0 ? filter->allowed : filter->used, filter->refused);
        load(filter, offsetof(struct seccomp_data, args) + zero[i]);
    }
    return filter->used;
}

static size_t family(struct filter *filter) {
    jump(filter, BPF_JEQ, NETLINK_ROUTE, filter->allowed, filter->refused);
    size_t netlink = load_argument(filter, 2);
    jump(filter, BPF_JEQ, AF_NETLINK, netlink, filter->refused);
    jump(filter, BPF_JEQ, AF_INET6, filter->allowed, filter->used);
    jump(filter, BPF_JEQ, AF_INET, filter->allowed, filter->used);
    return load_argument(filter, 0);
}

#define ONE_OF(index, ...)                                                                                             \
    one_of(filter, index, (const uint32_t[]){__VA_ARGS__}, sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))

static size_t decide(struct filter *filter, enum check check) {
    switch (check) {
    case NEVER:
        return filter->refused;
    case YOUNG:
        return answer(filter, SECCOMP_RET_ERRNO | ENOSYS);
    case ANY:
        return filter->allowed;
    case THREAD:
        return thread(filter);
    case OWN:
        filter->own = filter->used + 1;
        return ONE_OF(0, 0);
    case NAME:
        return ONE_OF(0, PR_SET_NAME, PR_GET_NAME, PR_SET_VMA);
    case TERMINAL:
        return ONE_OF(1, TCGETS, TCSETS, TCSETSW, TCSETSF, TCSBRK, TIOCGWINSZ, TIOCSWINSZ, TIOCGPTN, FIONREAD, FIONBIO,
                      FIOCLEX);
    case DUPLICATE:
        return ONE_OF(1, F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL);
    case NO_CODE:
        return no_code(filter, false);
    case LIBRARY:
        return no_code(filter, true);
    case LOOK:
        return look(filter);
    case FAMILY:
        return family(filter);
    }
    return filter->refused;
}

// Numbers from `first` up to the next range's have the same check.
struct range {
    unsigned first;
    enum check check;
};

// Find the range by halves: the kernel tries each number when a filter is installed, and each container installs one.
static size_t search(struct filter *filter, const struct range *ranges, size_t count) {
    if (count == 1)
        return filter->decided[ranges->check];
    size_t half = count / 2;
    size_t upper = search(filter, ranges + half, count - half), lower = search(filter, ranges, half);
    return jump(filter, BPF_JGE, ranges[half].first, upper, lower);
}

static size_t find_ranges(struct range *ranges, bool network) {
    static enum check checks[YOUNGEST + 1];
    size_t count = 0;
    for (unsigned number = 0; number <= YOUNGEST; number++)
        checks[number] = number < UNIFIED ? NEVER : YOUNG;
    for (size_t i = 0; i < call_count; i++)
        if (network || calls[i].when == ALWAYS)
            checks[calls[i].number] = calls[i].check;
    for (unsigned number = 0; number <= YOUNGEST; number++)
        if (number == 0 || checks[number] != checks[number - 1])
            ranges[count++] = (struct range){number, checks[number]};
    return count;
}

static bool build(struct filter *filter, bool network) {
    static struct range ranges[YOUNGEST + 1];
    size_t count = find_ranges(ranges, network);
    *filter = (struct filter){.used = 0};
    filter->refused = answer(filter, SECCOMP_RET_ERRNO | EPERM);
    filter->allowed = answer(filter, SECCOMP_RET_ALLOW);
    for (size_t i = 0; i < count; i++)
        if (filter->decided[ranges[i].check] == 0)
            filter->decided[ranges[i].check] = decide(filter, ranges[i].check);
    size_t found = search(filter, ranges, count), killed = answer(filter, SECCOMP_RET_KILL_PROCESS);
    jump(filter, BPF_JGE, OTHER_INTERFACE, killed, found);
    load(filter, offsetof(struct seccomp_data, nr));
    jump(filter, BPF_JEQ, OUR_ARCHITECTURE, filter->used, killed);
    load(filter, offsetof(struct seccomp_data, arch));
    return filter->used <= CODE;
}

bool seccomp_prepare(void) {
    return build(&filters[false], false) && build(&filters[true], true);
}

int seccomp_enter(bool network) {
    struct filter *filter = &filters[network];
    struct sock_fprog program = {(unsigned short)filter->used, filter->code + CODE - filter->used};
    filter->code[CODE - filter->own].k = (uint32_t)getpid();
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0U, &program);
}
