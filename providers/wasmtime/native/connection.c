#include "connection.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void connection_open(struct connection *connection, int fd) {
    connection_close(connection);
    connection->fd = fd;
}

void connection_close(struct connection *connection) {
    bool connected = connection->fd >= 0;
    if (connected)
        close(connection->fd);
    for (size_t i = 0; i < connection->descriptor_count; i++)
        close(connection->descriptors[i]);
    free(connection->output);
    connection->fd = -1;
    connection->descriptor_count = 0;
    connection->input_used = connection->input_taken = 0;
    connection->output_used = connection->output_size = 0;
    connection->output = NULL;
    if (connected && connection->on_close != NULL)
        connection->on_close();
}

// Keep the descriptors that a message carried. False if it carried them otherwise than it may.
static bool keep(struct connection *connection, struct msghdr *message) {
    bool kept = (message->msg_flags & MSG_CTRUNC) == 0;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part != NULL; part = CMSG_NXTHDR(message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        // The kernel uses what its alignment adds to the space too: there may be one more than was asked for.
        size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int received;
            memcpy(&received, CMSG_DATA(part) + i * sizeof received, sizeof received);
            if (connection->descriptor_count < DESCRIPTORS_MAX) {
                connection->descriptors[connection->descriptor_count++] = received;
                continue;
            }
            close(received);
            kept = false;
        }
        kept = kept && count == DESCRIPTORS;
    }
    return kept;
}

void connection_receive(struct connection *connection) {
    memmove(connection->input, connection->input + connection->input_taken,
            connection->input_used - connection->input_taken);
    connection->input_used -= connection->input_taken;
    connection->input_taken = 0;
    size_t room = sizeof connection->input - connection->input_used;
    if (connection->fd < 0 || room == 0)
        return;
    union {
        char space[CMSG_SPACE(DESCRIPTORS * sizeof(int))];
        struct cmsghdr aligned;
    } control;
    struct iovec part = {connection->input + connection->input_used, room};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof control.space};
    // One call brings the descriptors of one message at most (unix(7)).
    ssize_t got = recvmsg(connection->fd, &message, MSG_CMSG_CLOEXEC);
    if (got > 0 && !keep(connection, &message))
        connection_close(connection);
    else if (got > 0)
        connection->input_used += (size_t)got;
    else if (got == 0 || (errno != EAGAIN && errno != EINTR))
        connection_close(connection);
}

char *connection_line(struct connection *connection) {
    char *start = connection->input + connection->input_taken;
    size_t size = connection->input_used - connection->input_taken;
    char *end = memchr(start, '\n', size);
    if ((end != NULL ? (size_t)(end - start) : size) >= LINE_MAX_SIZE) {
        connection_close(connection);
        return NULL;
    }
    if (end == NULL)
        return NULL;
    *end = 0;
    connection->input_taken += (size_t)(end - start) + 1;
    return start;
}

bool connection_has_room(const struct connection *connection) {
    return connection->descriptor_count <= DESCRIPTORS_MAX - DESCRIPTORS;
}

bool connection_descriptors(struct connection *connection, int taken[DESCRIPTORS]) {
    if (connection->descriptor_count < DESCRIPTORS)
        return false;
    memcpy(taken, connection->descriptors, DESCRIPTORS * sizeof *taken);
    connection->descriptor_count -= DESCRIPTORS;
    memmove(connection->descriptors, connection->descriptors + DESCRIPTORS,
            connection->descriptor_count * sizeof *taken);
    return true;
}

void connection_flush(struct connection *connection) {
    size_t done = 0;
    while (done < connection->output_used) {
        ssize_t sent = send(connection->fd, connection->output + done, connection->output_used - done, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && errno == EAGAIN)
            break;
        if (sent < 0) {
            connection_close(connection);
            return;
        }
        done += (size_t)sent;
    }
    if (done > 0)
        memmove(connection->output, connection->output + done, connection->output_used - done);
    connection->output_used -= done;
}

void connection_send(struct connection *connection, const char *format, ...) {
    if (connection->fd < 0)
        return;
    char line[LINE_MAX_SIZE];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    size_t size = length < 0 ? 0 : (size_t)length < sizeof line ? (size_t)length : sizeof line - 1;
    line[size++] = '\n';
    if (connection->output_used + size > connection->output_size) {
        size_t wanted = connection->output_size > 0 ? 2 * connection->output_size : 4096;
        char *larger = wanted <= OUTPUT_MAX ? realloc(connection->output, wanted) : NULL;
        if (larger == NULL) {
            connection_close(connection);
            return;
        }
        connection->output = larger;
        connection->output_size = wanted;
    }
    memcpy(connection->output + connection->output_used, line, size);
    connection->output_used += size;
    connection_flush(connection);
}
