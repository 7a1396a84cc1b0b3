/* A guest that harms whom it can, in the way that its first argument says; each says "ready" when it has begun to,
 * or had its way:
 *   spin                 burns processor time for ever
 *   grow                 takes linear memory until it is refused, and writes to all of it
 *   recurse              calls itself for ever
 *   flood KIND MIB       logs so much: "endless" without a newline, "binary" all bytes there are, "escapes" what
 *                        terminals act on, "short" the shortest lines
 *   files DIRECTORY N    makes so many files, in directories of 1000, and then names of every odd kind
 *   deep DIRECTORY N     makes directories in each other, so many deep
 *   fill FILE MIB        writes so much, unless it is refused before
 *   links DIRECTORY      tries to read, write and make files outside of the directory by links
 *   link FILE TARGET     puts a symbolic link in a file's place
 *   open                 opens files until it is refused
 *   block HOW            "clock", "stdin", "accept": calls the host and is not to return
 *   clocks               asks clocks for what they cannot tell, and looks whether they go back
 *   arguments            says how many arguments and variables it has, and how long all are
 *   exit CODE            by the host's own function, whatever the C library thinks of that code
 * What it finds is a line each on standard output. All but the last two go on until they are ended. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wasi/api.h>

extern char **environ;

static char block[1 << 20];

static void rest(void) {
    puts("ready");
    for (;;)
        sleep(24 * 60 * 60);
}

static void told(const char *what, int failed) {
    printf("%s: %s\n", what, failed ? strerror(errno) : "done");
}

static void spin(void) {
    puts("ready");
    for (volatile unsigned round = 0;; round++)
        ;
}

static void grow(void) {
    puts("ready");
    for (;;) {
        size_t page = __builtin_wasm_memory_grow(0, 16);
        if (page == (size_t)-1)
            break;
        memset((char *)(page << 16), 1, 16 << 16);
    }
    told("grow", 1);
}

__attribute__((noinline, optnone)) static int recurse(volatile int depth) {
    return recurse(depth + 1) + depth;
}

static void flood(const char *kind, long mebibytes) {
    static const char escapes[] = "\33]0;owned\7\33[2J\33[1;1H\33c\r\b\v\f\x9b" "31m\n";
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = *kind == 'b'   ? (char)(i * 7 + i / 256)
                   : *kind == 's' ? '\n'
                   : *kind == 'e' && kind[1] == 's' ? escapes[i % (sizeof escapes - 1)]
                                                    : 'x';
    while (mebibytes-- > 0)
        for (size_t done = 0; done < sizeof block;) {
            ssize_t written = write(STDOUT_FILENO, block + done, sizeof block - done);
            if (written <= 0)
                return told("flood", 1);
            done += (size_t)written;
        }
}

static void touch(int directory, const char *name, const char *what) {
    int file = openat(directory, name, O_CREAT | O_WRONLY, 0666);
    if (file < 0)
        return told(what, 1);
    close(file);
}

static void files(const char *path, long count) {
    int top = open(path, O_RDONLY | O_DIRECTORY), directory = -1;
    char name[PATH_MAX];
    for (long i = 0; i < count; i++) {
        if (i % 1000 == 0) {
            if (directory >= 0)
                close(directory);
            snprintf(name, sizeof name, "many-%ld", i / 1000);
            mkdirat(top, name, 0777);
            directory = openat(top, name, O_RDONLY | O_DIRECTORY);
        }
        snprintf(name, sizeof name, "%ld", i);
        touch(directory, name, "files");
    }
    static const char *const odd[] = {
        "\n", " ", "-rf", "*", "$(reboot)", "...", "\33[2J", "\\", "'\"", "~", "\xe2\x80\xae" "cipher", "kubernetes.io", "exit",
        "spec", "\x7f", "\xf0\x9f\x92\xa3",
    };
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        mkdirat(top, odd[i], 0777);
        directory = openat(top, odd[i], O_RDONLY | O_DIRECTORY);
        touch(directory, odd[i], "odd");
    }
    memset(name, 'n', 255);
    name[255] = 0;
    touch(top, name, "long");
    printf("made %ld\n", count);
}

static void deep(const char *path, long levels) {
    int directory = open(path, O_RDONLY | O_DIRECTORY);
    long level = 0;
    for (; level < levels && mkdirat(directory, "deeper", 0777) == 0; level++) {
        int next = openat(directory, "deeper", O_RDONLY | O_DIRECTORY);
        if (next < 0)
            break;
        close(directory);
        directory = next;
    }
    touch(directory, "bottom", "deep");
    printf("deep %ld\n", level);
}

static void fill(const char *path, long mebibytes) {
    int file = open(path, O_CREAT | O_WRONLY, 0666);
    long long size = 0;
    while (size < (long long)mebibytes << 20) {
        ssize_t written = write(file, block, sizeof block);
        if (written <= 0)
            break;
        size += written;
        errno = 0;
    }
    int cause = errno;
    printf("filled %lld: %s\n", size, cause == 0 ? "done" : strerror(cause));
}

/* Every way out of a directory that a link could be. What must not be there is a line with "done". */
static void links(const char *path) {
    static const char *const targets[] = {
        "/etc/passwd", "../../../../../../../../etc/passwd", "../../../../../../../../proc/self/root/etc/passwd", "..",
        "../spec", "/proc/self/fd/3/spec", "../../../agent.lock",
    };
    int top = open(path, O_RDONLY | O_DIRECTORY);
    char name[64], text[64];
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        snprintf(name, sizeof name, "out-%zu", i);
        symlinkat(targets[i], top, name);
        int file = openat(top, name, O_RDONLY);
        ssize_t got = file < 0 ? -1 : read(file, text, sizeof text);
        told("read", got < 0);
        file = openat(top, name, O_CREAT | O_WRONLY, 0666);
        told("write", file < 0);
        file = openat(top, targets[i], O_RDONLY);
        told("path", file < 0);
        told("link", linkat(top, name, top, "hard", AT_SYMLINK_FOLLOW));
        strcat(name, "/inside");
        file = openat(top, name, O_CREAT | O_WRONLY, 0666);
        told("make", file < 0);
        told("mkdir", mkdirat(top, name, 0777));
    }
    /* One that is a directory when it is looked at, and a link when it is used; and out by another's way in. */
    mkdirat(top, "a", 0777);
    mkdirat(top, "a/b", 0777);
    int below = openat(top, "a/b", O_RDONLY | O_DIRECTORY);
    told("rename", renameat(top, "a/b", top, "b"));
    told("up", openat(below, "../../..", O_RDONLY | O_DIRECTORY) < 0);
    told("root", renameat(top, "..", top, "up") == 0 ? 0 : 1);
}

static void replace(const char *path, const char *target) {
    unlink(path);
    told("replaced", symlink(target, path));
}

static void open_all(void) {
    long count = 0;
    while (open("/", O_RDONLY | O_DIRECTORY) >= 0)
        count++;
    int cause = errno;
    printf("opened %ld: %s\n", count, strerror(cause));
}

static void block_in(const char *how) {
    if (*how == 's') {
        puts("ready");
        char byte;
        ssize_t got = read(STDIN_FILENO, &byte, 1);
        printf("stdin: %zd\n", got);
    } else if (*how == 'a') {
        for (__wasi_fd_t file = 0; file < 16; file++) {
            __wasi_fd_t connection;
            __wasi_errno_t wrong = __wasi_sock_accept(file, 0, &connection);
            if (wrong == __WASI_ERRNO_SUCCESS)
                puts("accept: done");
        }
    } else {
        __wasi_subscription_t forever[64];
        __wasi_event_t events[64];
        __wasi_size_t count;
        memset(forever, 0, sizeof forever);
        for (int i = 0; i < 64; i++) {
            forever[i].u.tag = __WASI_EVENTTYPE_CLOCK;
            forever[i].u.u.clock.id = __WASI_CLOCKID_MONOTONIC;
            forever[i].u.u.clock.timeout = UINT64_MAX - (uint64_t)i;
        }
        puts("ready");
        __wasi_errno_t wrong = __wasi_poll_oneoff(forever, events, 64, &count);
        printf("clock: %d\n", wrong);
    }
}

static void clocks(void) {
    __wasi_timestamp_t last = 0, now = 0;
    for (long i = 0; i < 1000000; i++) {
        if (__wasi_clock_time_get(__WASI_CLOCKID_MONOTONIC, UINT64_MAX, &now) != 0 || now < last)
            puts("clock: done");
        last = now;
    }
    __wasi_subscription_t past = {.u.tag = __WASI_EVENTTYPE_CLOCK};
    __wasi_event_t event;
    __wasi_size_t count;
    past.u.u.clock.id = __WASI_CLOCKID_REALTIME;
    past.u.u.clock.timeout = 1;
    past.u.u.clock.flags = __WASI_SUBCLOCKFLAGS_SUBSCRIPTION_CLOCK_ABSTIME;
    printf("past: %d\n", __wasi_poll_oneoff(&past, &event, 1, &count));
    /* So many that no list of them should be made. */
    printf("many: %d\n", __wasi_poll_oneoff(&past, &event, UINT32_MAX / 64, &count));
}

static int arguments(int count, char **values) {
    size_t length = 0, variables = 0;
    for (int i = 0; i < count; i++)
        length += strlen(values[i]);
    for (char **each = environ; *each != NULL; each++, variables++)
        length += strlen(*each);
    printf("%d arguments, %zu variables, %zu bytes\n", count, variables, length);
    return 0;
}

int main(int count, char **given) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    const char *way = count > 1 ? given[1] : "";
    const char *first = count > 2 ? given[2] : "", *second = count > 3 ? given[3] : "";
    if (strcmp(way, "spin") == 0)
        spin();
    else if (strcmp(way, "grow") == 0)
        grow();
    else if (strcmp(way, "recurse") == 0)
        return recurse(0);
    else if (strcmp(way, "flood") == 0)
        flood(first, atol(second));
    else if (strcmp(way, "files") == 0)
        files(first, atol(second));
    else if (strcmp(way, "deep") == 0)
        deep(first, atol(second));
    else if (strcmp(way, "fill") == 0)
        fill(first, atol(second));
    else if (strcmp(way, "links") == 0)
        links(first);
    else if (strcmp(way, "link") == 0)
        replace(first, second);
    else if (strcmp(way, "open") == 0)
        open_all();
    else if (strcmp(way, "block") == 0)
        block_in(first);
    else if (strcmp(way, "clocks") == 0)
        clocks();
    else if (strcmp(way, "arguments") == 0)
        return arguments(count, given);
    else if (strcmp(way, "exit") == 0)
        __wasi_proc_exit((__wasi_exitcode_t)strtoll(first, NULL, 10));
    else
        return 2;
    rest();
}
