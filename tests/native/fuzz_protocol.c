// Fuzzes what an agent sends to the launcher: the bytes of its lines in pieces of any size, with and without
// descriptors. Each piece of the input is one byte, how many descriptors come with it and how much text, and the text.
#include "connection.h"
#include "requests.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MORE = DESCRIPTORS + 1 };

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static struct connection agent = {.fd = -1};

static void expect(bool holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

static void send_piece(int to, const unsigned char *text, size_t size, size_t descriptors) {
    union {
        char space[CMSG_SPACE(MORE * sizeof(int))];
        struct cmsghdr aligned;
    } control = {.space = {0}};
    struct iovec part = {(void *)text, size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (descriptors > 0) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(descriptors * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(descriptors * sizeof(int));
        for (size_t i = 0; i < descriptors; i++)
            memcpy(CMSG_DATA(header) + i * sizeof to, &to, sizeof to);
    }
    sendmsg(to, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

// As the launcher does, but that nothing is started.
static void take_lines(void) {
    for (char *line; (line = connection_line(&agent)) != NULL;) {
        struct request request;
        int streams[DESCRIPTORS];
        if (!request_parse(line, &request)) {
            connection_close(&agent);
            continue;
        }
        if (request.verb != SHUT_DOWN)
            expect(strlen(request.id) == 64 && strchr(request.id, '/') == NULL && strlen(request.number) < 20,
                   "it names what it may not");
        if (request.verb == RUN && !connection_descriptors(&agent, streams))
            connection_close(&agent);
        else if (request.verb == RUN)
            for (size_t i = 0; i < DESCRIPTORS; i++)
                close(streams[i]);
        if (request.verb != SHUT_DOWN)
            connection_send(&agent, "failed %s nothing is started here", request.number);
    }
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    int ends[2], before = dup(STDERR_FILENO);
    expect(before >= 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0, "no sockets");
    close(before);
    connection_open(&agent, ends[0]);
    for (size_t at = 0; at < size && agent.fd >= 0;) {
        size_t descriptors = data[at] % (MORE + 1), length = data[at] / (MORE + 1) * 4U;
        at++;
        length = length < size - at ? length : size - at;
        if (length > 0)
            send_piece(ends[1], data + at, length, descriptors);
        at += length;
        if (connection_has_room(&agent) && length > 0)
            connection_receive(&agent);
        take_lines();
        expect(agent.input_taken <= agent.input_used && agent.input_used <= sizeof agent.input, "beyond its input");
        expect(agent.descriptor_count <= DESCRIPTORS_MAX, "beyond its descriptors");
    }
    close(ends[1]);
    connection_close(&agent);
    int after = dup(STDERR_FILENO);
    close(after);
    expect(after == before, "a descriptor stays open");
    return 0;
}
