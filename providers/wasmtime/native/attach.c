#include "attach.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#ifndef ATTACH_PATIENCE_MS
#define ATTACH_PATIENCE_MS 10000
#endif

enum { CLIENTS = 32, BACKLOG = 128, PACKET = 32 * 1024 };
enum { TO_INPUT = 0, FROM_OUTPUT = 1, RESIZE = 3, NO_MORE_INPUT = 4, NO_INPUT = 5,
       END_OF_INPUT = 6, RESIZE_SIZE = 5 };
enum { WAKE, LISTENER, GUEST, FIRST_CLIENT };

struct client {
    int fd;
    bool has_it;       // the packet that is being passed on, or nothing is
    bool deaf;         // it takes no more packets
    bool silent;       // it sends no more packets
    bool has_no_input; // nor had any
    bool input_over;   // what comes is no more input
};

// All is the thread's own but what says so.
static struct attachment {
    struct log *log;
    int listener;
    uid_t owner; // whoever made the container, and may attach to it
    int wake;
    int guest; // where input goes: a pipe, or the terminal, from which output comes too; -1 once it is closed
    bool started, input, input_once, terminal;
    struct client clients[CLIENTS];
    bool is_passing_on;
    int64_t passed_on_at; // when that began
    int64_t awaited_until; // for the first client, before anything that the terminal shows is taken; 0: not
    bool input_ends; // with what is in `input_data`
    size_t input_size, input_done;
    unsigned char input_data[PACKET + 1];
    pthread_t thread;
    pthread_mutex_t writers; // held by the guest's thread whose turn it is
    pthread_mutex_t mutex;   // guards what follows
    pthread_cond_t taken;
    bool ending;
    size_t client_count;
    size_t output_size; // 0: nothing is to be passed on
    unsigned char output[PACKET];
} attachment = {.guest = -1, .writers = PTHREAD_MUTEX_INITIALIZER, .mutex = PTHREAD_MUTEX_INITIALIZER,
                .taken = PTHREAD_COND_INITIALIZER};

static int64_t milliseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

int attach_listen(int directory) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/attach.sock", directory);
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    // The mode of a socket that is bound is the one that it had before, less the mask (unix(7)).
    if (listener >= 0 && fchmod(listener, 0600) == 0 &&
        bind(listener, (struct sockaddr *)&address, sizeof address) == 0 && listen(listener, BACKLOG) == 0)
        return listener;
    int cause = errno;
    if (listener >= 0)
        close(listener);
    errno = cause;
    return -1;
}

// The guest's side of a new terminal, whose other side is ours; -1 with the cause in errno.
static int open_terminal(void) {
    int unlocked = 0;
    attachment.guest = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (attachment.guest < 0 || ioctl(attachment.guest, TIOCSPTLCK, &unlocked) < 0)
        return -1;
    return ioctl(attachment.guest, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
}

static int open_pipe(void) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0 || fcntl(ends[1], F_SETFL, O_NONBLOCK) < 0)
        return -1;
    attachment.guest = ends[1];
    return ends[0];
}

const char *attach_open(const struct spec *spec, int listener, struct log *log) {
    attachment.log = log;
    attachment.listener = listener;
    attachment.owner = geteuid();
    attachment.input = spec->input;
    attachment.input_once = spec->input_once;
    attachment.terminal = spec->terminal;
    attachment.awaited_until = spec->attended ? milliseconds() + ATTACH_PATIENCE_MS : 0;
    attachment.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (attachment.wake < 0)
        return "making an eventfd";
    int theirs = spec->terminal ? open_terminal() : open_pipe();
    if (theirs < 0)
        return spec->terminal ? "making a terminal" : "making a pipe";
    for (int fd = STDIN_FILENO; fd <= (spec->terminal ? STDERR_FILENO : STDIN_FILENO); fd++)
        if (dup2(theirs, fd) < 0)
            return "giving the guest its standard files";
    close(theirs);
    return NULL;
}

static void wake(void) {
    uint64_t one = 1;
    // It cannot fail: the counter would have to be full.
    while (write(attachment.wake, &one, sizeof one) < 0 && errno == EINTR)
        continue;
}

// Give the guest what it was sent, as far as it has room.
static void feed(void) {
    while (attachment.input_done < attachment.input_size) {
        ssize_t written = write(attachment.guest, attachment.input_data + attachment.input_done,
                                attachment.input_size - attachment.input_done);
        if (written < 0)
            return; // there is no room
        attachment.input_done += (size_t)written;
    }
    attachment.input_size = attachment.input_done = 0;
    if (!attachment.input_ends || !attachment.input)
        return;
    attachment.input = false;
    struct termios mode;
    if (!attachment.terminal) {
        close(attachment.guest);
        attachment.guest = -1;
    } else if (tcgetattr(attachment.guest, &mode) == 0 && (mode.c_lflag & ICANON)) {
        // A terminal has no other end than this key: once for a line that was begun, once for the end.
        memset(attachment.input_data, mode.c_cc[VEOF], 2);
        attachment.input_size = 2;
    }
}

static void end_input(void) {
    attachment.input_ends = true;
    feed();
}

// Close the connection. What the client sent and nobody reads is read first: it would be told of an error
// before it is given what it was sent.
static void let_go(size_t index) {
    struct client *client = &attachment.clients[index];
    char rest[64];
    shutdown(client->fd, SHUT_RD);
    while (recv(client->fd, rest, sizeof rest, MSG_DONTWAIT) > 0)
        continue;
    close(client->fd);
    bool ends_input = attachment.input_once && !client->has_no_input;
    pthread_mutex_lock(&attachment.mutex);
    *client = attachment.clients[--attachment.client_count];
    pthread_mutex_unlock(&attachment.mutex);
    if (ends_input)
        end_input();
}

static void on_connect(void) {
    int fd = accept4(attachment.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || peer.uid != attachment.owner) {
        close(fd);
        return;
    }
    pthread_mutex_lock(&attachment.mutex);
    attachment.clients[attachment.client_count++] = (struct client){.fd = fd, .has_it = true};
    attachment.awaited_until = 0;
    pthread_mutex_unlock(&attachment.mutex);
}

// Read one packet. False if the client is to be let go of.
static bool hear(struct client *client, bool hung_up) {
    unsigned char *packet = attachment.input_data;
    ssize_t size = recv(client->fd, packet, sizeof attachment.input_data, MSG_DONTWAIT | MSG_TRUNC);
    if (size < 0 && errno == ECONNRESET)
        client->deaf = true; // it went without reading all; what it sent before is still there
    if (size < 0)
        return errno == EAGAIN || errno == EINTR || errno == ECONNRESET;
    if (size == 0) {
        client->silent = true;
        return !hung_up;
    }
    if ((size_t)size > sizeof attachment.input_data)
        return false;
    if (packet[0] == RESIZE && size == RESIZE_SIZE) {
        struct winsize window = {.ws_row = (unsigned short)(packet[1] << 8 | packet[2]),
                                 .ws_col = (unsigned short)(packet[3] << 8 | packet[4])};
        return !attachment.terminal || ioctl(attachment.guest, TIOCSWINSZ, &window) == 0;
    }
    if ((packet[0] == NO_MORE_INPUT || packet[0] == NO_INPUT) && size == 1) {
        client->input_over = true;
        client->has_no_input = packet[0] == NO_INPUT;
        if (attachment.input_once && !client->has_no_input)
            end_input();
        return true;
    }
    if (packet[0] == END_OF_INPUT && size == 1) {
        end_input();
        return true;
    }
    if (packet[0] != TO_INPUT)
        return false;
    if (attachment.input && !attachment.input_ends && !client->input_over) {
        attachment.input_size = (size_t)size;
        attachment.input_done = 1;
    }
    return true;
}

// Send to each client what it does not have yet; when all have it, or were let go of, it is passed on.
static void pass_on(void) {
    bool late = milliseconds() - attachment.passed_on_at >= ATTACH_PATIENCE_MS, waits = false;
    for (size_t i = attachment.client_count; i-- > 0;) {
        struct client *client = &attachment.clients[i];
        if (client->has_it)
            continue;
        client->has_it = client->deaf || send(client->fd, attachment.output, attachment.output_size,
                                              MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
        if (!client->has_it && errno != EAGAIN && errno != EINTR)
            client->has_it = client->deaf = true;
        if (!client->has_it && late)
            let_go(i);
        else
            waits = waits || !client->has_it;
    }
    if (waits)
        return;
    attachment.is_passing_on = false;
    pthread_mutex_lock(&attachment.mutex);
    attachment.output_size = 0;
    pthread_cond_broadcast(&attachment.taken);
    pthread_mutex_unlock(&attachment.mutex);
}

static void begin_to_pass_on(void) {
    attachment.is_passing_on = true;
    attachment.passed_on_at = milliseconds();
    for (size_t i = 0; i < attachment.client_count; i++)
        attachment.clients[i].has_it = false;
    pass_on();
}

// Take what the terminal shows. False if it shows nothing more than what was taken.
static bool look(void) {
    ssize_t size = read(attachment.guest, attachment.output + 1, sizeof attachment.output - 1);
    if (size <= 0)
        return false;
    log_write(attachment.log, STREAM_STDOUT, attachment.output + 1, (size_t)size);
    attachment.output[0] = FROM_OUTPUT;
    pthread_mutex_lock(&attachment.mutex);
    attachment.output_size = 1 + (size_t)size;
    pthread_mutex_unlock(&attachment.mutex);
    begin_to_pass_on();
    return true;
}

// Wait until there is something to do, and do it. `output` tells that something is being passed on.
static void turn(bool output) {
    struct pollfd files[FIRST_CLIENT + CLIENTS] = {{0}};
    size_t count = attachment.client_count;
    bool has_input = attachment.input_size > 0;
    files[WAKE] = (struct pollfd){.fd = attachment.wake, .events = POLLIN};
    files[LISTENER] = (struct pollfd){.fd = count < CLIENTS ? attachment.listener : -1, .events = POLLIN};
    files[GUEST] = (struct pollfd){.fd = attachment.guest};
    if (has_input)
        files[GUEST].events |= POLLOUT;
    int64_t awaited = attachment.awaited_until - milliseconds();
    if (awaited <= 0)
        attachment.awaited_until = 0;
    if (attachment.terminal && !output && awaited <= 0)
        files[GUEST].events |= POLLIN;
    if (files[GUEST].events == 0)
        files[GUEST].fd = -1;
    for (size_t i = 0; i < count; i++) {
        const struct client *client = &attachment.clients[i];
        struct pollfd *file = &files[FIRST_CLIENT + i];
        file->events = (short)((has_input || client->silent ? 0 : POLLIN) | (client->has_it ? 0 : POLLOUT));
        // While input waits, a client that has gone has to wait too: what it sent last is not read yet.
        file->fd = has_input && file->events == 0 ? -1 : client->fd;
    }
    int64_t left = attachment.passed_on_at + ATTACH_PATIENCE_MS - milliseconds();
    if (poll(files, FIRST_CLIENT + count, !output ? (awaited > 0 ? (int)awaited : -1) : left > 0 ? (int)left : 0) < 0)
        return;
    uint64_t counter;
    if (files[WAKE].revents != 0 && read(attachment.wake, &counter, sizeof counter) < 0)
        return;
    if (files[GUEST].revents & POLLOUT)
        feed();
    for (size_t i = count; i-- > 0;) {
        short events = files[FIRST_CLIENT + i].revents;
        bool hung_up = events & (POLLHUP | POLLERR);
        if (attachment.input_size > 0 || !(events & (POLLIN | POLLHUP | POLLERR)))
            continue;
        if (!hear(&attachment.clients[i], hung_up))
            let_go(i);
        else
            feed();
    }
    if (files[LISTENER].revents != 0)
        on_connect();
    if (output)
        pass_on();
    else if (files[GUEST].revents & POLLIN)
        look();
}

static void *serve(void *unused) {
    for (;;) {
        pthread_mutex_lock(&attachment.mutex);
        bool output = attachment.output_size > 0, ending = attachment.ending;
        pthread_mutex_unlock(&attachment.mutex);
        if (output && !attachment.is_passing_on)
            begin_to_pass_on();
        else if (output || !ending || attachment.awaited_until > 0)
            turn(output);
        else if (!attachment.terminal || !look())
            break;
    }
    while (attachment.client_count > 0)
        let_go(attachment.client_count - 1);
    return unused;
}

bool attach_start(void) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    errno = pthread_create(&attachment.thread, NULL, serve, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    attachment.started = errno == 0;
    return attachment.started;
}

void attach_write(enum stream stream, const unsigned char *data, size_t size) {
    if (!attachment.started || attachment.terminal)
        return;
    pthread_mutex_lock(&attachment.writers);
    pthread_mutex_lock(&attachment.mutex);
    while (size > 0 && attachment.client_count > 0) {
        size_t taken = size < sizeof attachment.output ? size : sizeof attachment.output - 1;
        attachment.output[0] = stream == STREAM_STDOUT ? FROM_OUTPUT : FROM_OUTPUT + 1;
        memcpy(attachment.output + 1, data, taken);
        attachment.output_size = 1 + taken;
        wake();
        while (attachment.output_size > 0)
            pthread_cond_wait(&attachment.taken, &attachment.mutex);
        data += taken;
        size -= taken;
    }
    pthread_mutex_unlock(&attachment.mutex);
    pthread_mutex_unlock(&attachment.writers);
}

void attach_close(void) {
    if (!attachment.started)
        return;
    pthread_mutex_lock(&attachment.mutex);
    attachment.ending = true;
    pthread_mutex_unlock(&attachment.mutex);
    wake();
    pthread_join(attachment.thread, NULL);
}
