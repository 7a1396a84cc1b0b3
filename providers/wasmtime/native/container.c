#include "container.h"

#include "again.h"
#include "attach.h"
#include "kernel.h"
#include "limits.h"
#include "logs.h"
#include "namespaces.h"
#include "records.h"
#include "sandbox.h"
#include "spec.h"
#include "system.h"
#include "threads.h"
#include "wasi.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { DIRECTORY = 3, SOCKET };

static struct log container_log; // zero pages until they are used
static int records = DIRECTORY;  // where its end is recorded

// The first process of a namespace of processes hears no signal but those that it has a handler of, whatever they do
// to others (pid_namespaces(7)): these end a process that has none.
static const struct {
    int number;
    const char *name;
} deadly[] = {
    {SIGHUP, "Hangup"},
    {SIGINT, "Interrupt"},
    {SIGQUIT, "Quit"},
    {SIGABRT, "Aborted"},
    {SIGPIPE, "Broken pipe"},
    {SIGALRM, "Alarm clock"},
    {SIGTERM, "Terminated"},
    {SIGUSR1, "User defined signal 1"},
    {SIGUSR2, "User defined signal 2"},
};
static uint64_t born_at;
static bool is_ending; // one thread records the end, and no other
static const char *crowded = "the node has as many processes as it may have"; // who bounds them, if there are too many

static void on_deadly(int number) {
    static struct ending ending = {.reason = "killed"};
    int cause = errno;
    bool is_first;
    for (size_t i = 0; i < sizeof deadly / sizeof *deadly; i++) {
        if (deadly[i].number != number || __atomic_test_and_set(&is_ending, __ATOMIC_ACQ_REL))
            continue;
        snprintf(ending.message, sizeof ending.message, "killed by signal %d (%s)", number, deadly[i].name);
        ending.code = 128 + number;
        ending.signal = number;
        ending.started_at = born_at;
        ending.finished_at = now();
        if (number == SIGABRT && threads_refused(&is_first)) {
            snprintf(ending.message, sizeof ending.message, "%s: %s", crowded, strerror(EAGAIN));
            if (is_first) {
                ending.code = 128;
                ending.reason = "cannot-run";
                ending.signal = 0;
                ending.started_at = 0;
            }
        }
        record_exit(records, &ending);
        _exit(ending.code);
    }
    errno = cause;
}

// SIGPIPE too: whose reader has gone is ended as any other process; a guest cannot ask for more, and many would write
// on for ever.
static bool hear_signals(uint64_t started_at) {
    struct sigaction action = {.sa_handler = on_deadly};
    sigfillset(&action.sa_mask);
    born_at = started_at;
    for (size_t i = 0; i < sizeof deadly / sizeof *deadly; i++)
        if (sigaction(deadly[i].number, &action, NULL) < 0)
            return false;
    sigset_t none;
    sigemptyset(&none);
    return sigprocmask(SIG_SETMASK, &none, NULL) == 0;
}

// Close all files from the number `first` on, but for those that are `kept`.
static bool close_others(int first, const int *kept, size_t count) {
    for (;;) {
        int next = INT32_MAX;
        for (size_t i = 0; i < count; i++)
            if (kept[i] >= first && kept[i] < next)
                next = kept[i];
        if (next == INT32_MAX)
            return syscall(SYS_close_range, first, ~0U, 0U) == 0;
        if (next > first && syscall(SYS_close_range, first, next - 1, 0U) < 0)
            return false;
        first = next + 1;
    }
}

// Nothing of the launcher's stays: no file but the container's directory and its code (without streams of its own,
// standard error is the launcher's, for what the library says when it fails), no session, no signal or mask. The
// handlers that the engine installed for traps do stay.
static const char *part(int directory, struct given given) {
    for (int fd = STDIN_FILENO; given.streams != NULL && fd <= STDERR_FILENO; fd++)
        if (dup2(given.streams[fd], fd) < 0)
            return "taking the standard files";
    if (directory != DIRECTORY && dup2(directory, DIRECTORY) < 0)
        return "keeping the container's directory open";
    if (fcntl(DIRECTORY, F_SETFD, FD_CLOEXEC) < 0)
        return "keeping the container's directory open";
    if (given.listener >= 0 && given.listener != SOCKET && dup2(given.listener, SOCKET) < 0)
        return "keeping the socket for those who attach open";
    const int kept[] = {given.code != NULL ? given.code->file : -1, namespaces_files(), namespaces_network()};
    if (!close_others(given.listener >= 0 ? SOCKET + 1 : DIRECTORY + 1, kept, sizeof kept / sizeof *kept))
        return "closing the launcher's files";
    if (setsid() < 0)
        return "making a session";
    signal(SIGCHLD, SIG_DFL);
    umask(022);
    return NULL;
}

static void fail(struct ending *ending, const char *step, const char *detail, const char *cause) {
    snprintf(ending->message, sizeof ending->message, "%s%s%s: %s", step, *detail ? " " : "", detail, cause);
    ending->started_at = 0;
}

static bool is_version_2(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL && strcmp(slash, "/cgroup.procs") == 0;
}

// A number in a file beside a cgroup's directory; -1 if there is none ("max").
static long beside(const char *joined, const char *name) {
    char path[4096], text[24];
    int size = (int)(strrchr(joined, '/') - joined);
    if (snprintf(path, sizeof path, "%.*s/../%s", size, joined, name) >= (int)sizeof path)
        return -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    if (got <= 0)
        return -1;
    text[got] = '\0';
    char *end;
    long number = strtol(text, &end, 10);
    return end == text ? -1 : number;
}

// Join a cgroup. Version 1 lets any process join, whatever pids.max says (Process Number Controller): that of the pod,
// the directory above, is looked at when this process is counted already, so that of many at once none is too many.
static bool join(const char *path) {
    if (!kernel_tell(path, "0"))
        return false;
    if (is_version_2(path))
        return true;
    long most = beside(path, "pids.max");
    if (most < 0 || beside(path, "pids.current") <= most)
        return true;
    errno = EAGAIN;
    return false;
}

// The process may write in the container's directory no more: its spec says what later instances may do. The record of
// its end goes into a directory of its own, and what is said to it there can be read. Where it becomes another user,
// nobody else comes here: no other user may enter the run directory.
static bool open_records(const struct spec *spec) {
    static const char name[] = "own";
    if (mkdirat(DIRECTORY, name, 0700) < 0 && errno != EEXIST)
        return false;
    int own = openat(DIRECTORY, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (own < 0)
        return false;
    records = own;
    if (spec->identity_count == 0 || spec->identity[0] == geteuid())
        return true;
    uid_t user = spec->identity[0];
    gid_t group = spec->identity[1];
    return fchmod(DIRECTORY, 0711) == 0 && fchown(own, user, group) == 0 &&
           (fchownat(own, ".exit", user, group, AT_SYMLINK_NOFOLLOW) == 0 || errno == ENOENT);
}

// A file of /proc/self that a kernel may not have, nor let everybody write at any time.
static bool tell_kernel(const char *path, const char *value) {
    return kernel_tell(path, value) || errno == EACCES || errno == ENOENT || errno == EAGAIN;
}

// What asks for no processor time gets a tenth of what others do, where joining a cgroup that bounds it would cost more
// than its start: it may burn all there is, and neither the agent nor who asked for some notices. The kernel may weigh
// sessions, and only in them processes (sched(7), autogroup): this process is the session.
static bool give_way(const struct spec *spec) {
    enum { LOWER = 10 };
    if (spec->cgroup_count > 0 || spec->asks_for_processor)
        return true;
    return setpriority(PRIO_PROCESS, 0, LOWER) == 0 && tell_kernel("/proc/self/autogroup", "10");
}

// NULL, or what failed, with the cause in errno.
static const char *enter_sandbox(const struct spec *spec, const struct log *log) {
    size_t given, count = 0;
    const struct directory *directories = system_directories(&given);
    struct reach *reach = calloc(given + 3, sizeof *reach);
    if (reach == NULL)
        return "reach";
    for (size_t i = 0; i < given; i++)
        reach[count++] = (struct reach){directories[i].fd, directories[i].writable};
    reach[count++] = (struct reach){DIRECTORY, false};
    reach[count++] = (struct reach){records, true};
    if (log != NULL)
        reach[count++] = (struct reach){log->folder, true};
    const char *wrong = sandbox_enter(spec, reach, count);
    int cause = errno;
    free(reach);
    errno = cause;
    return wrong;
}

static void run(const struct runtime *runtime, struct given given, struct ending *ending) {
    struct spec spec;
    const char *wrong = spec_read(DIRECTORY, "spec", &spec);
    if (wrong != NULL) {
        fail(ending, "reading the container's spec", "", wrong);
        return;
    }
    struct log *log = spec.log_path == NULL ? NULL : &container_log;
    bool is_attachable = log != NULL && (spec.input || spec.terminal);
    if ((given.streams == NULL) != (log != NULL) || (given.listener < 0) == is_attachable ||
        (spec.runs > 1 && (log != NULL || spec.terminal))) {
        fail(ending, "reading the container's spec", "", "it is not what was asked for");
        return;
    }
    wrong = is_attachable ? attach_open(&spec, SOCKET, log) : NULL;
    if (wrong != NULL) {
        fail(ending, wrong, "", strerror(errno));
        return;
    }
    if (spec.terminal && ioctl(STDIN_FILENO, TIOCSCTTY, 0) < 0) {
        fail(ending, "taking the terminal", "", strerror(errno));
        return;
    }
    if (log != NULL && !log_open(log, spec.log_path, spec.log_max_bytes, spec.log_max_files)) {
        fail(ending, "opening the log", spec.log_path, strerror(errno));
        return;
    }
    if (spec.cgroup_count > 0)
        crowded = "the pod has as many processes as it may have";
    // A process that moves only itself and has one thread need not wait for all others (`tasks` of cgroup v1).
    for (size_t i = 0; i < spec.cgroup_count; i++) {
        if (!(given.is_in_cgroup && is_version_2(spec.cgroups[i])) && !join(spec.cgroups[i])) {
            if (errno == EAGAIN)
                fail(ending, crowded, "", strerror(errno));
            else
                fail(ending, "joining the cgroup", spec.cgroups[i], strerror(errno));
            return;
        }
    }
    // Only the privileged may make the kernel spare a process; for the others it is as ready as it was.
    if (spec.oom_score_adj != NULL && !tell_kernel("/proc/self/oom_score_adj", spec.oom_score_adj)) {
        fail(ending, "setting oom_score_adj to", spec.oom_score_adj, strerror(errno));
        return;
    }
    if (!open_records(&spec)) {
        fail(ending, "making a directory for the record of its end", "", strerror(errno));
        return;
    }
    static char root[] = "/proc/self/fd/3/rootfs";
    _Static_assert(DIRECTORY == 3, "the path of the root directory names it");
    // All that is opened by its path is, before the process becomes whom the spec says; threads come after that.
    struct log *output = spec.terminal ? NULL : log;
    if (!wasi_prepare(runtime, &spec, given.code, spec.root != NULL ? spec.root : root, output, ending))
        return;
    if (!give_way(&spec)) {
        fail(ending, "giving way to others", "", strerror(errno));
        return;
    }
    wrong = enter_sandbox(&spec, log);
    if (wrong != NULL) {
        fail(ending, "entering the sandbox:", wrong, strerror(errno));
        return;
    }
    if (!limits_watch(DIRECTORY)) {
        fail(ending, "watching for a new memory limit", "", strerror(errno));
        return;
    }
    if (is_attachable && !attach_start()) {
        fail(ending, errno == EAGAIN ? crowded : "starting the thread for those who attach", "", strerror(errno));
        return;
    }
    threads_of_guest();
    if (spec.runs > 1)
        again_serve(runtime, &spec, ending);
    else
        wasi_run(runtime, output, ending);
    attach_close();
    if (log != NULL)
        log_close(log);
}

_Noreturn void container_run(const struct runtime *runtime, int directory, struct given given,
                             uint64_t started_at) {
    static struct ending ending = {.code = 128, .reason = "cannot-run"};
    ending.started_at = started_at;
    const char *step = part(directory, given);
    if (step != NULL) {
        // Too early to own anything: the launcher records that the process left no record.
        fprintf(stderr, "container: %s: %s\n", step, strerror(errno));
        _exit(128);
    }
    if (!record_started(DIRECTORY, started_at)) {
        // EEXIST: whoever asked has taken it back, or another process runs it.
        if (errno != EEXIST && errno != ENOENT)
            fprintf(stderr, "container: recording its start: %s\n", strerror(errno));
        _exit(128);
    }
    if (!hear_signals(started_at))
        fail(&ending, "listening for signals", "", strerror(errno));
    else
        run(runtime, given, &ending);
    if (__atomic_test_and_set(&is_ending, __ATOMIC_ACQ_REL))
        for (;;)
            poll(NULL, 0, -1); // it ends by a signal, in another thread
    ending.finished_at = now();
    if (!record_exit(records, &ending))
        fprintf(stderr, "container: recording its end: %s\n", strerror(errno));
    _exit(ending.code);
}
