// Fuzzes the launcher as an agent has it: its own loop, over its own socket, in the working directory. Only containers
// are none: their processes are numbers that no process has. An input is a sequence of steps, one at each turn of the
// loop. One is a byte, and what it asks for:
//
//     5 * N + D    4 * N bytes, which are sent with D descriptors; N is not 0
//     255          the last of these are sent again, as often as the next byte says
//     0            a process ends; the next byte says which and how
//     1            the agent reads what it was sent
//     2            another agent connects
//     3            the agent goes
//     4            a child ends that the launcher never had
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>

int launcher_main(int count, char **arguments);
static pid_t process_make(void);
static long process_clone(long number, ...);
static int next_turn(struct pollfd *files, nfds_t count, int timeout);
static pid_t process_wait(pid_t pid, int *status, int options);
static int process_kill(pid_t pid, int number);
static void *allocate(void *old, size_t size);

#define kill process_kill
#define fork process_make
#define syscall process_clone
#define main launcher_main
#define poll next_turn
#define waitpid process_wait
#define realloc allocate
#include "children.c"
#include "connection.c"
#include "launcher.c"
#undef poll
#undef realloc

// No process has a number above that (PID_MAX_LIMIT, proc(5)): /proc has none of them, and there is none to kill.
enum { FIRST_PID = (1 << 22) + 1, PROCESSES = 40, MORE = DESCRIPTORS + 1, IDLE_TURNS = 8 };
enum { END_OF_PROCESS, READ, CONNECT, GO, UNKNOWN_CHILD, AGAIN = 255 };
// So little that an agent that does not read is soon one for whom there is no more room.
enum { MEMORY = 8192, SENDING = 4096 };

static const char *const ids[] = {
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
};

static struct process {
    bool is_killed, has_ended, is_reaped;
    int status;
} processes[PROCESSES];
static size_t process_count;
static size_t unknown;

static struct input input;
static struct iovec piece;
static size_t piece_descriptors;
static int agent, older, null, signal_end;
static unsigned idle_turns;
static size_t heard_size;
static char heard[LINE_MAX_SIZE];

const char *runtime_open(struct runtime *runtime, const char *path) {
    (void)runtime, (void)path;
    return "there is no library here";
}

const struct code *code_keep(const struct runtime *runtime, int directory) {
    (void)runtime, (void)directory;
    return NULL;
}

_Noreturn void container_run(const struct runtime *runtime, int directory, struct given given, uint64_t started_at) {
    (void)runtime, (void)directory, (void)given, (void)started_at;
    abort();
}

void log_write(struct log *log, enum stream stream, const unsigned char *data, size_t size) {
    (void)log, (void)stream, (void)data, (void)size;
}

static pid_t process_make(void) {
    if (process_count == PROCESSES) {
        errno = EAGAIN;
        return -1;
    }
    return FIRST_PID + (pid_t)process_count++;
}

// Every other process, the kernel cannot make this way.
static long process_clone(long number, ...) {
    expect(number == SYS_clone3, "another call");
    errno = ENOSYS;
    return process_count % 2 > 0 ? -1 : process_make();
}

static void *allocate(void *old, size_t size) {
    return size <= MEMORY ? realloc(old, size) : NULL;
}

static void say(unsigned number) {
    struct signalfd_siginfo info = {.ssi_signo = number};
    expect(write(signal_end, &info, sizeof info) == (ssize_t)sizeof info, "too many signals");
}

static void end_process(struct process *process, int status) {
    if (process->has_ended)
        return;
    process->has_ended = true;
    process->status = status;
    say(SIGCHLD);
}

static int process_kill(pid_t pid, int number) {
    expect(pid >= FIRST_PID && pid < FIRST_PID + (pid_t)process_count && number == SIGKILL, "it kills somebody else");
    struct process *process = &processes[pid - FIRST_PID];
    expect(!process->is_reaped, "it kills what may be somebody else by now");
    process->is_killed = true;
    return 0;
}

static pid_t process_wait(pid_t pid, int *status, int options) {
    expect(pid == -1 && options == WNOHANG, "it waits otherwise");
    for (size_t i = 0; i < process_count; i++) {
        if (processes[i].has_ended && !processes[i].is_reaped) {
            processes[i].is_reaped = true;
            *status = processes[i].status;
            return FIRST_PID + (pid_t)i;
        }
    }
    if (unknown == 0)
        return -1;
    unknown--;
    *status = 0;
    return FIRST_PID + PROCESSES;
}

static void connect_agent(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "launcher.sock"};
    if (older >= 0)
        close(older);
    older = agent;
    agent = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    heard_size = 0;
    if (connect(agent, (struct sockaddr *)&address, sizeof address) < 0)
        expect(errno == EAGAIN, "nobody listens"); // too many at once
}

static void disconnect_agent(void) {
    if (agent >= 0)
        close(agent);
    agent = -1;
}

static void check_line(const char *line) {
    const char *const words[] = {"started ", "failed ", "ended "};
    bool is_known = strcmp(line, LAUNCHER_IDENTITY) == 0;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        is_known = is_known || strncmp(line, words[i], strlen(words[i])) == 0;
    expect(is_known, "an agent hears what it does not know");
}

// What the launcher says is lines that an agent understands.
static void hear(void) {
    char text[4096];
    for (ssize_t got; agent >= 0 && (got = recv(agent, text, sizeof text, 0)) > 0;) {
        for (ssize_t i = 0; i < got; i++) {
            expect(heard_size < sizeof heard, "a long line");
            heard[heard_size++] = text[i];
            if (text[i] != '\n')
                continue;
            heard[heard_size - 1] = 0;
            check_line(heard);
            heard_size = 0;
        }
    }
}

// False if it could not be sent.
static bool send_piece(void) {
    union {
        char space[CMSG_SPACE(MORE * sizeof(int))];
        struct cmsghdr aligned;
    } control = {.space = {0}};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    if (piece.iov_len == 0 || agent < 0)
        return false;
    if (piece_descriptors > 0) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(piece_descriptors * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(piece_descriptors * sizeof(int));
        for (size_t i = 0; i < piece_descriptors; i++)
            memcpy(CMSG_DATA(header) + i * sizeof null, &null, sizeof null);
    }
    return sendmsg(agent, &message, MSG_NOSIGNAL) >= 0;
}

static void step(void) {
    unsigned what = take_byte(&input), how;
    if (launcher.agent.fd >= 0)
        setsockopt(launcher.agent.fd, SOL_SOCKET, SO_SNDBUF, &(int){SENDING}, sizeof(int));
    switch (what) {
    case END_OF_PROCESS:
        how = take_byte(&input);
        if (process_count > 0)
            end_process(&processes[how / 4 % process_count], how % 4 == 0 ? SIGKILL : (int)(how % 4 - 1) << 8);
        break;
    case READ:
        hear();
        break;
    case CONNECT:
        connect_agent();
        break;
    case GO:
        disconnect_agent();
        break;
    case UNKNOWN_CHILD:
        unknown++;
        say(SIGCHLD);
        break;
    case AGAIN:
        for (how = take_byte(&input); how > 0 && send_piece(); how--)
            continue;
        break;
    default:
        piece_descriptors = what % (MORE + 1);
        piece.iov_base = (void *)take_bytes(&input, what / (MORE + 1) * 4, &piece.iov_len);
        send_piece();
    }
}

static int look(struct pollfd *files, nfds_t count) {
    int ready = poll(files, count, 0);
    expect(ready >= 0, "it waits for what it may not");
    idle_turns = ready > 0 ? idle_turns + 1 : 0;
    return ready;
}

static bool end_processes(void) {
    bool any = false;
    for (size_t i = 0; i < process_count; i++) {
        any = any || !processes[i].has_ended;
        end_process(&processes[i], processes[i].is_killed ? SIGKILL : 0);
    }
    return any;
}

// In the place of poll(). At the end the agent reads, and when all has been said that was to be said, all processes end,
// and then the launcher does.
static int next_turn(struct pollfd *files, nfds_t count, int timeout) {
    expect(launcher.agent.input_taken <= launcher.agent.input_used &&
               launcher.agent.input_used <= sizeof launcher.agent.input &&
               launcher.agent.descriptor_count <= DESCRIPTORS_MAX,
           "beyond what it has room for");
    while (input.at < input.end) {
        step();
        int ready = poll(files, count, 0);
        // No step takes as long as it would wait for an agent.
        if (ready != 0 || timeout <= 0)
            return ready;
    }
    hear();
    int ready = look(files, count);
    // Each message that was sent may be a turn of its own.
    expect(idle_turns < IDLE_TURNS * (PROCESSES + INPUT_SIZE), "it never rests");
    if (ready > 0 || timeout == 0)
        return ready;
    if (!end_processes())
        say(SIGTERM);
    return poll(files, count, 0);
}

static void set_up(void) {
    int ends[2];
    umask(077);
    expect(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0, "no pipe");
    launcher.signals = ends[0];
    signal_end = ends[1];
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    mkdir(CONTAINERS, 0700);
    launcher.containers = open(CONTAINERS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    expect(null >= 0 && launcher.containers >= 0, "no directory");
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        mkdirat(launcher.containers, ids[i], 0700);
    int first = openat(launcher.containers, ids[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    mkdirat(first, "cgroup", 0700);
    close(first);
    expect(listen_on_socket() == NULL, "no socket");
}

static void clean(const char *name) {
    char path[256];
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        snprintf(path, sizeof path, "%s/%s", ids[i], name);
        unlinkat(launcher.containers, path, 0);
    }
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    static bool is_set_up;
    if (!is_set_up)
        set_up();
    is_set_up = true;
    clean("exit");
    clean("attach.sock");
    int before = next_descriptor();
    input = (struct input){data, data + size};
    memset(processes, 0, sizeof processes);
    process_count = unknown = idle_turns = 0;
    agent = older = -1;
    piece.iov_len = 0;
    connect_agent();
    serve();
    hear();
    connection_close(&launcher.agent);
    // What it was told and did not ask for before it ended.
    struct signalfd_siginfo rest;
    while (read(launcher.signals, &rest, sizeof rest) > 0)
        continue;
    end_processes();
    reap();
    while (read(launcher.signals, &rest, sizeof rest) > 0)
        continue;
    disconnect_agent();
    if (older >= 0)
        close(older);
    for (int fd; (fd = accept(launcher.listener, NULL, NULL)) >= 0;)
        close(fd);
    for (size_t i = 0; i < BUCKETS; i++)
        expect(buckets[i] == NULL, "it forgets no child that has ended");
    expect(next_descriptor() == before, "a descriptor stays open");
    return 0;
}
