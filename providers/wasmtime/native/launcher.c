// The launcher: holds the engine, and forks a process for each container.
//
//     vkubelet-launcher RUN_DIR LIBRARY     serve RUN_DIR/launcher.sock; returns once it does
//     vkubelet-launcher --identity          tell what this program was built from
//     vkubelet-launcher --sandbox           tell what of the sandbox this host allows; see sandbox.h
//
// It never runs a guest, and it has one thread, so that its children are born whole. It is no container's
// keeper: killed, it takes none with it, and none is lost, for what a container is and was stands in the
// container's own directory. Messages are lines; the agent's are
//
//     start REQUEST ID     fork the container whose directory is RUN_DIR/containers/ID
//     serve REQUEST ID     the same with a socket for those who attach, in its directory when this is answered
//     run REQUEST ID       the same as start with three descriptors that come with the line as its standard files;
//                          it is killed when the agent's connection ends
//     shutdown             end; containers run on
//
// and the launcher's
//
//     IDENTITY                                  at once, to each agent that connects
//     started REQUEST PID START_TIME STARTED_AT the process exists
//     failed REQUEST TEXT                       there is no process
//     ended ID                                  the process is gone, and its exit record is there

#include "attach.h"
#include "children.h"
#include "code.h"
#include "connection.h"
#include "container.h"
#include "library.h"
#include "records.h"
#include "requests.h"
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

// Without an agent and without containers for this long it is of no use, and ends: an agent may have ended before it
// connected, and nobody comes where the directory is gone. The next agent starts another.
#ifndef IDLE_MS
#define IDLE_MS 60000
#endif

static const char SOCKET[] = "launcher.sock", NEW_SOCKET[] = "launcher.sock.new", CONTAINERS[] = "containers";

static struct launcher {
    struct runtime runtime;
    struct connection agent;
    int containers; // the directory of container directories
    int listener;
    int signals;
} launcher = {.agent = {.fd = -1, .on_close = children_end}};

static void start(const char *request, const char *id, struct given given, bool is_attachable) {
    int directory = openat(launcher.containers, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (directory < 0) {
        connection_send(&launcher.agent, "failed %s opening the container's directory: %s", request, strerror(errno));
        return;
    }
    given.listener = is_attachable ? attach_listen(directory) : -1;
    if (is_attachable && given.listener < 0) {
        connection_send(&launcher.agent, "failed %s listening for those who attach: %s", request, strerror(errno));
        close(directory);
        return;
    }
    uint64_t started_at = now();
    struct child *child = child_new(id, started_at, given.streams != NULL);
    given.code = code_keep(&launcher.runtime, directory);
    int cgroup = openat(directory, "cgroup", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    pid_t pid = child == NULL ? -1 : child_fork(cgroup, sandbox_is_alone(), &given.is_in_cgroup);
    if (pid == 0)
        container_run(&launcher.runtime, directory, given, started_at);
    int cause = errno;
    if (cgroup >= 0)
        close(cgroup);
    close(directory);
    if (is_attachable)
        close(given.listener);
    if (pid < 0) {
        free(child);
        connection_send(&launcher.agent, "failed %s making a process: %s", request, strerror(cause));
        return;
    }
    child_add(child, pid);
    connection_send(&launcher.agent, "started %s %d %" PRIu64 " %" PRIu64, request, (int)pid, process_start_time(pid),
                    started_at);
}

static bool run(const char *request, const char *id) {
    int streams[DESCRIPTORS];
    if (!connection_descriptors(&launcher.agent, streams))
        return false;
    start(request, id, (struct given){.streams = streams}, false);
    for (size_t i = 0; i < DESCRIPTORS; i++)
        close(streams[i]);
    return true;
}

// A process that left no exit record was killed, or could not even write one: the launcher, who alone
// knows how it ended, writes it.
static void record_end(const struct child *child, int status) {
    int directory = openat(launcher.containers, child->id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (directory < 0)
        return;
    if (faccessat(directory, "exit", F_OK, AT_SYMLINK_NOFOLLOW) == 0 ||
        faccessat(directory, "own/exit", F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
        close(directory);
        return;
    }
    struct ending ending = {.started_at = child->started_at, .finished_at = now()};
    if (WIFSIGNALED(status)) {
        ending.code = 128 + WTERMSIG(status);
        ending.signal = WTERMSIG(status);
        ending.reason = "killed";
        snprintf(ending.message, sizeof ending.message, "killed by signal %d (%s)", ending.signal,
                 strsignal(ending.signal));
    } else {
        ending.code = 128;
        ending.reason = "cannot-run";
        snprintf(ending.message, sizeof ending.message, "the process ended with code %d and could leave no record",
                 WEXITSTATUS(status));
    }
    if (!record_exit(directory, &ending))
        fprintf(stderr, "launcher: recording the end of %s: %s\n", child->id, strerror(errno));
    close(directory);
}

static void reap(void) {
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        struct child *child = child_take(pid);
        if (child == NULL)
            continue;
        record_end(child, status);
        connection_send(&launcher.agent, "ended %s", child->id);
        free(child);
    }
}

// False if the launcher is to end.
static bool on_signal(void) {
    struct signalfd_siginfo info;
    while (read(launcher.signals, &info, sizeof info) == (ssize_t)sizeof info)
        if (info.ssi_signo != SIGCHLD)
            return false;
    reap();
    return true;
}

static void on_connect(void) {
    int fd = accept4(launcher.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || peer.uid != geteuid()) {
        close(fd);
        return;
    }
    connection_open(&launcher.agent, fd);
    connection_send(&launcher.agent, "%s", LAUNCHER_IDENTITY);
}

// False if the launcher is to end. Whoever speaks otherwise is no agent of this launcher: let go of.
static bool on_line(char *line) {
    struct request request;
    bool understood = request_parse(line, &request);
    if (understood && request.verb == SHUT_DOWN)
        return false;
    if (understood && request.verb == RUN)
        understood = run(request.number, request.id);
    else if (understood)
        start(request.number, request.id, (struct given){.streams = NULL}, request.verb == SERVE);
    if (!understood)
        connection_close(&launcher.agent);
    return true;
}

static void serve(void) {
    for (;;) {
        char *line = connection_line(&launcher.agent);
        if (line != NULL && !on_line(line))
            return;
        struct pollfd files[] = {
            {.fd = launcher.signals, .events = POLLIN},
            {.fd = launcher.listener, .events = POLLIN},
            {.fd = launcher.agent.fd},
        };
        // Lines make room for the descriptors of others: they go first.
        if (line == NULL || connection_has_room(&launcher.agent))
            files[2].events |= POLLIN;
        if (launcher.agent.output_used > 0)
            files[2].events |= POLLOUT;
        // One line a turn: between two starts, ends are reported.
        int wait = line != NULL ? 0 : launcher.agent.fd >= 0 || children_left() ? -1 : IDLE_MS;
        int ready = poll(files, 3, wait);
        if (ready == 0 && wait > 0)
            return;
        if (ready <= 0)
            continue;
        if (files[0].revents != 0 && !on_signal())
            return;
        if (files[2].revents & POLLOUT)
            connection_flush(&launcher.agent);
        if (files[2].revents & ~POLLOUT)
            connection_receive(&launcher.agent);
        if (files[1].revents != 0)
            on_connect();
    }
}

static void ignore(int signal_number) {
    (void)signal_number;
}

// Only one launcher serves a directory. One that is about to end is waited for, for some seconds.
static const char *lock(void) {
    int fd = open("launcher.lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return "opening launcher.lock";
    sigaction(SIGALRM, &(struct sigaction){.sa_handler = ignore}, NULL);
    alarm(5);
    if (flock(fd, LOCK_EX) < 0)
        return "locking launcher.lock, which another launcher holds";
    alarm(0);
    return NULL;
}

static const char *listen_on_socket(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, NEW_SOCKET, sizeof NEW_SOCKET);
    launcher.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (launcher.listener < 0)
        return "making a socket";
    unlink(NEW_SOCKET);
    if (bind(launcher.listener, (struct sockaddr *)&address, sizeof address) < 0)
        return "binding launcher.sock";
    if (chmod(NEW_SOCKET, 0600) < 0 || listen(launcher.listener, 16) < 0 || rename(NEW_SOCKET, SOCKET) < 0)
        return "listening on launcher.sock";
    return NULL;
}

static const char *watch_signals(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    signal(SIGHUP, SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return "blocking signals";
    launcher.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return launcher.signals < 0 ? "making a signalfd" : NULL;
}

static const char *redirect(void) {
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int log = open("launcher.log", O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (null < 0 || log < 0)
        return "opening launcher.log";
    if (dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 || dup2(log, STDERR_FILENO) < 0)
        return "redirecting standard files";
    close(null);
    close(log);
    return NULL;
}

// NULL, or what failed, with the cause in errno, or 0 there if the text says all.
static const char *prepare(const char *run_directory, const char *library) {
    static const char *(*const steps[])(void) = {lock, watch_signals, listen_on_socket, redirect};
    umask(077);
    if (setsid() < 0)
        return "making a session";
    if (chdir(run_directory) < 0)
        return run_directory;
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
        return "becoming a subreaper";
    launcher.containers = open(CONTAINERS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (launcher.containers < 0)
        return "opening the directory of containers";
    const char *wrong = runtime_open(&launcher.runtime, library);
    if (wrong != NULL) {
        errno = 0;
        return wrong;
    }
    wrong = sandbox_find();
    for (size_t i = 0; i < sizeof steps / sizeof *steps && wrong == NULL; i++)
        wrong = steps[i]();
    return wrong;
}

// The process that was started waits for the one that will serve, and tells whether it does.
static int await_ready(int ready) {
    char text[1024];
    size_t used = 0;
    for (ssize_t got; used < sizeof text && (got = read(ready, text + used, sizeof text - used)) > 0;)
        used += (size_t)got;
    if (used == 1 && text[0] == '.')
        return 0;
    fprintf(stderr, "%.*s\n", used > 0 ? (int)used : 31, used > 0 ? text : "the launcher ended unexpectedly");
    return 1;
}

static int tell_sandbox(void) {
    const char *wrong = sandbox_find();
    if (wrong != NULL) {
        perror(wrong);
        return 1;
    }
    sandbox_tell(stdout);
    return 0;
}

int main(int count, char **arguments) {
    if (count == 2 && strcmp(arguments[1], "--identity") == 0) {
        puts(LAUNCHER_IDENTITY);
        return 0;
    }
    if (count == 2 && strcmp(arguments[1], "--sandbox") == 0)
        return tell_sandbox();
    if (count != 3) {
        fprintf(stderr, "usage: vkubelet-launcher RUN_DIR LIBRARY | vkubelet-launcher --identity | --sandbox\n");
        return 2;
    }
    syscall(SYS_close_range, STDERR_FILENO + 1U, ~0U, 0U);
    int ready[2];
    if (pipe2(ready, O_CLOEXEC) < 0) {
        perror("making a pipe");
        return 1;
    }
    pid_t pid = fork();
    if (pid < 0) {
        perror("making a process");
        return 1;
    }
    if (pid > 0) {
        close(ready[1]);
        return await_ready(ready[0]);
    }
    close(ready[0]);
    const char *wrong = prepare(arguments[1], arguments[2]);
    if (wrong != NULL) {
        dprintf(ready[1], errno != 0 ? "%s: %s" : "%s", wrong, strerror(errno));
        return 1;
    }
    // That number stays taken: it is where a container has its socket, so that no file that it keeps is there.
    if (write(ready[1], ".", 1) == 1 && dup3(STDIN_FILENO, ready[1], O_CLOEXEC) == ready[1])
        serve();
    unlink(SOCKET);
    connection_close(&launcher.agent);
    return 0;
}
