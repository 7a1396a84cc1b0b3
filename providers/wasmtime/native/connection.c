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
    if (connection->fd >= 0)
        close(connection->fd);
    free(connection->output);
    connection->fd = -1;
    connection->input_used = connection->input_taken = 0;
    connection->output_used = connection->output_size = 0;
    connection->output = NULL;
}

void connection_receive(struct connection *connection) {
    memmove(connection->input, connection->input + connection->input_taken,
            connection->input_used - connection->input_taken);
    connection->input_used -= connection->input_taken;
    connection->input_taken = 0;
    size_t room = sizeof connection->input - connection->input_used;
    if (connection->fd < 0 || room == 0)
        return;
    ssize_t got = recv(connection->fd, connection->input + connection->input_used, room, 0);
    if (got > 0)
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
