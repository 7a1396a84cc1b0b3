// Fuzzes what those who attach to a container send it: its own loop, over its own socket, in the working directory, in
// one thread. The first byte of an input says what the container has; what follows is a sequence of steps, one at each
// turn of the loop. One is a byte: its remainder by 8 says what happens, and the rest to which client or how much.
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

static int next_turn(struct pollfd *files, nfds_t count, int timeout);
static int give(int from, int to);
static int tell_time(clockid_t clock, struct timespec *time);

#define poll next_turn
#define dup2 give
#define clock_gettime tell_time
#include "attach.c"
#undef poll
#undef clock_gettime

enum { PEERS = CLIENTS + 8, LARGE = 255, IDLE_TURNS = 10000 };
enum { SEND, CONNECT, GO, HEAR, GUEST_READS, GUEST_WRITES, TIME_PASSES, SHUT };

static int directory;
static struct input input;
static int peers[PEERS];
static size_t peer_count;
static int guest_end; // the guest's standard input, or its terminal
static int64_t seconds;
static unsigned idle_turns;

void log_write(struct log *log, enum stream stream, const unsigned char *data, size_t size) {
    (void)log, (void)stream;
    expect(size > 0 && data == attachment.output + 1 && size < sizeof attachment.output, "it logs something else");
}

static int give(int from, int to) {
    if (to != STDIN_FILENO)
        return to;
    guest_end = dup(from);
    return guest_end < 0 || fcntl(guest_end, F_SETFL, O_NONBLOCK) < 0 ? -1 : to;
}

static int tell_time(clockid_t clock, struct timespec *time) {
    expect(clock == CLOCK_MONOTONIC, "it looks at another clock");
    *time = (struct timespec){.tv_sec = (time_t)seconds};
    return 0;
}

static void connect_peer(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "attach.sock"};
    if (peer_count == PEERS)
        return;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    expect(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0, "nobody listens");
    peers[peer_count++] = fd;
}

static void disconnect_peer(size_t index) {
    close(peers[index]);
    peers[index] = peers[--peer_count];
}

static void hear_all(int peer) {
    unsigned char packet[PACKET + 1];
    for (ssize_t got; (got = recv(peer, packet, sizeof packet, 0)) > 0;)
        expect(got <= PACKET && (packet[0] == FROM_OUTPUT || packet[0] == FROM_OUTPUT + 1), "no output");
}

static void send_packet(int peer) {
    static unsigned char large[2 * PACKET];
    size_t size = take_byte(&input), taken;
    const unsigned char *data = take_bytes(&input, size, &taken);
    if (size < LARGE) {
        send(peer, data, taken, MSG_NOSIGNAL);
        return;
    }
    // What comes first in it is what there is of the input; how much it is, the last byte of that says.
    memcpy(large, data, taken);
    size_t around = PACKET - 2 + (taken > 0 ? data[taken - 1] % 8 : 0);
    send(peer, large, taken > 0 && data[taken - 1] >= 128 ? sizeof large : around, MSG_NOSIGNAL);
}

static void guest_reads(size_t size) {
    unsigned char text[4096];
    while (size > 0 && guest_end >= 0 && read(guest_end, text, sizeof text) > 0)
        size--;
}

// As attach_write() does, but that nobody waits until all have it.
static void guest_writes(size_t size) {
    static const unsigned char text[PACKET];
    if (attachment.terminal) {
        expect(write(guest_end, text, size) >= 0 || errno == EAGAIN, "no terminal");
        return;
    }
    pthread_mutex_lock(&attachment.mutex);
    if (attachment.output_size == 0 && attachment.client_count > 0) {
        attachment.output[0] = (unsigned char)(FROM_OUTPUT + size % 2);
        attachment.output_size = 1 + size;
        wake();
    }
    pthread_mutex_unlock(&attachment.mutex);
}

static void step(void) {
    unsigned byte = take_byte(&input), rest = byte / 8;
    size_t index = peer_count > 0 ? rest % peer_count : 0;
    switch (byte % 8) {
    case CONNECT:
        connect_peer();
        break;
    case GUEST_READS:
        guest_reads(1 + rest);
        break;
    case GUEST_WRITES:
        guest_writes(1 + rest * 1023);
        break;
    case TIME_PASSES:
        seconds += rest;
        break;
    default:
        if (peer_count == 0)
            break;
        if (byte % 8 == SEND)
            send_packet(peers[index]);
        else if (byte % 8 == GO)
            disconnect_peer(index);
        else if (byte % 8 == HEAR)
            hear_all(peers[index]);
        else
            shutdown(peers[index], SHUT_WR);
    }
}

// In the place of poll(). At the end the guest ends, and who has not taken what it wrote runs out of time.
static int next_turn(struct pollfd *files, nfds_t count, int timeout) {
    expect(attachment.client_count <= CLIENTS && attachment.input_done <= attachment.input_size &&
               attachment.input_size <= sizeof attachment.input_data &&
               attachment.output_size <= sizeof attachment.output,
           "beyond what it has room for");
    if (input.at < input.end) {
        step();
        return poll(files, count, 0);
    }
    int ready = poll(files, count, 0);
    expect(ready >= 0 && idle_turns++ < IDLE_TURNS, "it never rests");
    if (ready > 0)
        return ready;
    if (timeout >= 0)
        seconds += ATTACH_PATIENCE_MS / 1000;
    attachment.ending = true;
    wake();
    return poll(files, count, 0);
}

static void open_container(unsigned flags) {
    static struct log log;
    unlinkat(directory, "attach.sock", 0);
    memset(&attachment, 0, sizeof attachment);
    attachment.guest = -1;
    struct spec spec = {.input = flags & 1, .input_once = flags & 2, .terminal = flags & 4};
    int listener = attach_listen(directory);
    expect(listener >= 0 && attach_open(&spec, listener, &log) == NULL, "no container");
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    if (directory == 0)
        directory = openat(AT_FDCWD, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int before = next_descriptor();
    input = (struct input){data, data + size};
    peer_count = idle_turns = 0;
    guest_end = -1;
    open_container(take_byte(&input));
    connect_peer();
    serve(NULL);
    expect(attachment.client_count == 0 && attachment.output_size == 0, "somebody is left");
    while (peer_count > 0)
        disconnect_peer(0);
    close(attachment.listener);
    close(attachment.wake);
    close(guest_end);
    if (attachment.guest >= 0)
        close(attachment.guest);
    expect(next_descriptor() == before, "a descriptor stays open");
    return 0;
}
