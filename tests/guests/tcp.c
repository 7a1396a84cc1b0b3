/* A WASI preview 2 guest that serves TCP on loopback, many connections at once:
 *   echo PORT          sends back what it gets
 *   serve PORT BYTES   sends so many bytes: byte N is N modulo 251
 *   sink PORT          reads to the end and answers how many bytes that were, as decimal digits and a newline
 * Port 0 is any free one. It says "listening on PORT" when it does, and keeps reading what it has no use for, so
 * that no answer is lost to a reset. A client that closes its half gets the rest of its answer.
 *
 * It is linked against no C library and calls WASI by the canonical ABI; tcp.wat makes a component of it.
 */

#include <stdint.h>

typedef uint32_t handle;

#define FROM(interface, function) __attribute__((import_module("wasi:" interface "@0.2.0"), import_name(function)))

FROM("cli/environment", "get-arguments") void get_arguments(void *result);
FROM("cli/stdout", "get-stdout") handle get_stdout(void);
FROM("cli/stderr", "get-stderr") handle get_stderr(void);
FROM("io/poll", "poll") void poll_list(const handle *pollables, uint32_t count, void *result);
FROM("io/poll", "[method]pollable.block") void block(handle pollable);
FROM("io/poll", "[resource-drop]pollable") void drop_pollable(handle pollable);
FROM("io/error", "[resource-drop]error") void drop_error(handle error);
FROM("io/streams", "[method]input-stream.read") void read_input(handle stream, uint64_t most, void *result);
FROM("io/streams", "[method]input-stream.subscribe") handle subscribe_input(handle stream);
FROM("io/streams", "[resource-drop]input-stream") void drop_input(handle stream);
FROM("io/streams", "[method]output-stream.check-write") void check_write(handle stream, void *result);
FROM("io/streams", "[method]output-stream.write")
void write_output(handle stream, const void *data, uint32_t size, void *result);
FROM("io/streams", "[method]output-stream.blocking-write-and-flush")
void print_output(handle stream, const void *data, uint32_t size, void *result);
FROM("io/streams", "[method]output-stream.subscribe") handle subscribe_output(handle stream);
FROM("io/streams", "[resource-drop]output-stream") void drop_output(handle stream);
FROM("sockets/instance-network", "instance-network") handle instance_network(void);
FROM("sockets/tcp-create-socket", "create-tcp-socket") void create_socket(uint32_t family, void *result);
FROM("sockets/tcp", "[method]tcp-socket.start-bind")
void start_bind(handle socket, handle network, uint32_t family, uint32_t port, uint32_t a, uint32_t b, uint32_t c,
                uint32_t d, uint32_t, uint32_t, uint32_t, uint32_t, uint32_t, uint32_t, void *result);
FROM("sockets/tcp", "[method]tcp-socket.finish-bind") void finish_bind(handle socket, void *result);
FROM("sockets/tcp", "[method]tcp-socket.start-listen") void start_listen(handle socket, void *result);
FROM("sockets/tcp", "[method]tcp-socket.finish-listen") void finish_listen(handle socket, void *result);
FROM("sockets/tcp", "[method]tcp-socket.local-address") void local_address(handle socket, void *result);
FROM("sockets/tcp", "[method]tcp-socket.accept") void accept_socket(handle socket, void *result);
FROM("sockets/tcp", "[method]tcp-socket.subscribe") handle subscribe_socket(handle socket);
FROM("sockets/tcp", "[method]tcp-socket.shutdown") void shutdown_socket(handle socket, uint32_t how, void *result);
FROM("sockets/tcp", "[resource-drop]tcp-socket") void drop_socket(handle socket);

/* What the host returned in memory is taken back all at once. */
__attribute__((import_module("memory"), import_name("release"))) void release(void);

enum { IPV4, ACCESS_DENIED = 1, WOULD_BLOCK = 8, ADDRESS_IN_USE = 12, CONNECTION_ABORTED = 16 };
enum { SHUTDOWN_SEND = 1 };
enum { CONNECTIONS = 256, BUFFER = 32 * 1024 };
enum mode { ECHO, SERVE, SINK };

struct list {
    const char *data;
    uint32_t count;
};

struct text {
    const char *data;
    uint32_t size;
};

struct code_result { /* result<_, error-code> */
    uint8_t failed, code;
};

struct handle_result { /* result<own, error-code> */
    uint8_t failed;
    union {
        uint8_t code;
        handle handle;
    };
};

struct accept_result { /* result<(socket, input, output), error-code> */
    uint8_t failed;
    union {
        uint8_t code;
        struct {
            handle socket, input, output;
        };
    };
};

struct address_result { /* result<ip-socket-address, error-code> */
    uint8_t failed;
    union {
        uint8_t code;
        struct {
            uint8_t family;
            _Alignas(4) uint16_t port;
            uint8_t rest[26];
        };
        uint32_t alignment;
    };
};

struct stream_error {
    uint8_t closed;
    handle error; /* unless it is closed */
};

struct read_result { /* result<list<u8>, stream-error> */
    uint8_t failed;
    union {
        struct list list;
        struct stream_error error;
    };
};

struct check_result { /* result<u64, stream-error> */
    uint8_t failed;
    union {
        uint64_t permitted;
        struct stream_error error;
    };
};

struct write_result { /* result<_, stream-error> */
    uint8_t failed;
    struct stream_error error;
};

struct connection {
    handle socket, input, output, readable, writable; /* 0 is none: handles begin at 1 */
    uint32_t begin, end;                              /* of what in `data` is to be sent */
    uint64_t received, left;                          /* bytes; `left` are to be made: by sink, one answer */
    uint8_t ended;                                    /* no more input comes */
    uint8_t data[BUFFER];
};

/* The connections follow what the linker placed: zeroed by the memory's maker, they are no part of the module. */
extern struct connection __heap_base[CONNECTIONS];
_Static_assert(sizeof(struct connection[CONNECTIONS]) < 12 << 20, "what the host returns begins at 16 MiB");

static enum mode mode;
static uint64_t amount;

static uint32_t length(const char *text) {
    uint32_t size = 0;
    while (text[size] != 0)
        size++;
    return size;
}

static void print(handle stream, const char *text) {
    struct write_result result;
    print_output(stream, text, length(text), &result);
}

static const char *decimal(uint64_t number) {
    static char digits[24];
    char *at = digits + sizeof digits - 1;
    do
        *--at = (char)('0' + number % 10);
    while ((number /= 10) != 0);
    return at;
}

/* How the guest ends when the network refuses: the result of `run`. */
static uint32_t refused(const char *step, uint8_t code) {
    handle stream = get_stderr();
    print(stream, step);
    print(stream, ": ");
    if (code == ACCESS_DENIED)
        print(stream, "access denied");
    else if (code == ADDRESS_IN_USE)
        print(stream, "address in use");
    else
        print(stream, "error code "), print(stream, decimal(code));
    print(stream, "\n");
    return 1;
}

static uint64_t number(struct text text) {
    uint64_t value = 0;
    for (uint32_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            __builtin_trap();
        value = value * 10 + (uint64_t)(text.data[i] - '0');
    }
    return value;
}

static uint8_t is(struct text text, const char *word) {
    if (text.size != length(word))
        return 0;
    for (uint32_t i = 0; i < text.size; i++)
        if (text.data[i] != word[i])
            return 0;
    return 1;
}

static void failed(struct stream_error error) {
    if (!error.closed)
        drop_error(error.error);
}

static void close_output(struct connection *connection) {
    if (connection->output == 0)
        return;
    drop_pollable(connection->writable);
    drop_output(connection->output);
    connection->output = 0;
}

static void close_connection(struct connection *connection) {
    close_output(connection);
    drop_pollable(connection->readable);
    drop_input(connection->input);
    drop_socket(connection->socket);
    connection->socket = 0;
}

/* Put what is to be sent next into the empty buffer. */
static void produce(struct connection *connection) {
    uint32_t size = 0;
    if (mode == SERVE) {
        uint64_t made = amount - connection->left;
        for (; size < BUFFER && connection->left > 0; connection->left--)
            connection->data[size++] = (uint8_t)(made++ % 251);
    } else if (mode == SINK && connection->ended && connection->left > 0) {
        connection->left = 0;
        for (const char *digit = decimal(connection->received); *digit != 0; digit++)
            connection->data[size++] = (uint8_t)*digit;
        connection->data[size++] = '\n';
    }
    connection->begin = 0;
    connection->end = size;
}

static uint8_t wants_input(const struct connection *connection) {
    return !connection->ended && (mode != ECHO || connection->begin == connection->end);
}

static uint8_t complete(const struct connection *connection) {
    return connection->begin == connection->end && connection->left == 0 && (mode == SERVE || connection->ended);
}

static uint8_t wants_output(const struct connection *connection) {
    return connection->output != 0 && (connection->begin < connection->end || complete(connection));
}

static void receive(struct connection *connection) {
    struct read_result result;
    read_input(connection->input, BUFFER, &result);
    if (result.failed) {
        failed(result.error);
        connection->ended = 1;
        if (!result.error.closed) {
            close_connection(connection);
            return;
        }
    } else {
        connection->received += result.list.count;
        if (mode == ECHO) {
            for (uint32_t i = 0; i < result.list.count; i++)
                connection->data[i] = (uint8_t)result.list.data[i];
            connection->begin = 0;
            connection->end = result.list.count;
        }
        release();
    }
    if (mode == SINK && connection->ended)
        produce(connection);
    if (connection->ended && connection->output == 0)
        close_connection(connection);
}

static void send(struct connection *connection) {
    struct check_result ready;
    check_write(connection->output, &ready);
    if (ready.failed) {
        failed(ready.error);
        close_connection(connection);
        return;
    }
    if (ready.permitted == 0)
        return;
    if (complete(connection)) { /* A permit for more says that all is on its way. */
        struct code_result result;
        shutdown_socket(connection->socket, SHUTDOWN_SEND, &result);
        close_output(connection);
        if (connection->ended)
            close_connection(connection);
        return;
    }
    uint32_t size = connection->end - connection->begin;
    if (size > ready.permitted)
        size = (uint32_t)ready.permitted;
    struct write_result result;
    write_output(connection->output, connection->data + connection->begin, size, &result);
    if (result.failed) {
        failed(result.error);
        close_connection(connection);
        return;
    }
    connection->begin += size;
    if (connection->begin == connection->end && mode == SERVE)
        produce(connection);
}

static uint8_t welcome(handle listener, struct connection *connection) {
    struct accept_result result;
    accept_socket(listener, &result);
    if (result.failed)
        return result.code == WOULD_BLOCK || result.code == CONNECTION_ABORTED ? 0 : result.code;
    connection->socket = result.socket;
    connection->input = result.input;
    connection->output = result.output;
    connection->readable = subscribe_input(result.input);
    connection->writable = subscribe_output(result.output);
    connection->received = 0;
    connection->ended = 0;
    connection->left = mode == SERVE ? amount : mode == SINK ? 1 : 0;
    produce(connection);
    return 0;
}

static uint32_t serve(handle listener, handle acceptable) {
    static handle wanted[1 + 2 * CONNECTIONS];
    static struct connection *whose[1 + 2 * CONNECTIONS];
    static uint32_t ready[1 + 2 * CONNECTIONS];
    for (;;) {
        uint32_t count = 0;
        struct connection *vacant = 0;
        for (uint32_t i = 0; i < CONNECTIONS; i++) {
            struct connection *connection = __heap_base + i;
            if (connection->socket == 0) {
                vacant = connection;
                continue;
            }
            if (wants_input(connection)) {
                whose[count] = connection;
                wanted[count++] = connection->readable;
            }
            if (wants_output(connection)) {
                whose[count] = connection;
                wanted[count++] = connection->writable;
            }
        }
        if (vacant != 0) {
            whose[count] = vacant;
            wanted[count++] = acceptable;
        }
        struct list list;
        poll_list(wanted, count, &list);
        for (uint32_t i = 0; i < list.count; i++)
            ready[i] = ((const uint32_t *)list.data)[i];
        release();
        for (uint32_t i = 0; i < list.count; i++) {
            struct connection *connection = whose[ready[i]];
            handle pollable = wanted[ready[i]];
            if (pollable == acceptable) {
                uint8_t code = welcome(listener, connection);
                if (code != 0)
                    return refused("accept", code);
            } else if (connection->socket == 0) {
                continue; /* Its other half ended it just now. */
            } else if (pollable == connection->readable) {
                receive(connection);
            } else {
                send(connection);
            }
        }
    }
}

static uint8_t finished(handle pollable, handle socket, void finish(handle, void *)) {
    struct code_result result;
    do {
        block(pollable);
        finish(socket, &result);
    } while (result.failed && result.code == WOULD_BLOCK);
    return result.failed ? result.code : 0;
}

/* The entry point; its result is that of wasi:cli/run: 0 is success. */
__attribute__((export_name("run"))) uint32_t run(void) {
    struct list list;
    get_arguments(&list);
    const struct text *arguments = (const struct text *)list.data;
    if (list.count == 3 && is(arguments[1], "echo"))
        mode = ECHO;
    else if (list.count == 3 && is(arguments[1], "sink"))
        mode = SINK;
    else if (list.count == 4 && is(arguments[1], "serve"))
        mode = SERVE, amount = number(arguments[3]);
    else {
        print(get_stderr(), "usage: echo PORT | serve PORT BYTES | sink PORT\n");
        return 1;
    }
    uint32_t port = (uint32_t)number(arguments[2]);
    release();

    struct handle_result made;
    create_socket(IPV4, &made);
    if (made.failed)
        return refused("socket", made.code);
    handle listener = made.handle, acceptable = subscribe_socket(listener);
    struct code_result result;
    start_bind(listener, instance_network(), IPV4, port, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, &result);
    uint8_t code = result.failed ? result.code : finished(acceptable, listener, finish_bind);
    if (code != 0)
        return refused("bind", code);
    start_listen(listener, &result);
    code = result.failed ? result.code : finished(acceptable, listener, finish_listen);
    if (code != 0)
        return refused("listen", code);
    struct address_result address;
    local_address(listener, &address);
    if (address.failed)
        return refused("address", address.code);
    handle stream = get_stdout();
    print(stream, "listening on ");
    print(stream, decimal(address.port));
    print(stream, "\n");
    return serve(listener, acceptable);
}
