#include "spec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SPEC_MAX = 16 * 1024 * 1024, RUNS_MAX = 1000 };

static bool to_number(const char *text, uint64_t *number) {
    char *end;
    errno = 0;
    *number = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == 0 && errno == 0 && *number <= INT64_MAX;
}

// Room for as many of each as the text can hold, and for PWD; at least one, so that no array is NULL.
static bool allocate(struct spec *spec, const char *text, const char *end) {
    size_t arguments = 1, variables = 2, preopens = 1, identity = 1, cgroups = 1;
    for (const char *at = text; at < end; at += strlen(at) + 1) {
        arguments += *at == 'a';
        variables += *at == 'n';
        preopens += *at == 'w' || *at == 'r' || *at == 'P';
        identity += *at == 'e';
        cgroups += *at == 'h';
    }
    spec->arguments = calloc(arguments, sizeof *spec->arguments);
    spec->names = calloc(variables, sizeof *spec->names);
    spec->values = calloc(variables, sizeof *spec->values);
    spec->preopens = calloc(preopens, sizeof *spec->preopens);
    spec->identity = calloc(identity, sizeof *spec->identity);
    spec->cgroups = calloc(cgroups, sizeof *spec->cgroups);
    return spec->arguments != NULL && spec->names != NULL && spec->values != NULL && spec->preopens != NULL &&
           spec->identity != NULL && spec->cgroups != NULL;
}

static bool *flag(struct spec *spec, char tag) {
    switch (tag) {
    case 'i':
        return &spec->input;
    case 'c':
        return &spec->input_once;
    case 't':
        return &spec->terminal;
    case 'A':
        return &spec->attended;
    case 'u':
        return &spec->network;
    case 'p':
        return &spec->read_only_root;
    default:
        return NULL;
    }
}

// Take one string. `before` is the tag of the one before it: a name is followed by its value and a
// host directory by the guest's path, at once.
static const char *take(struct spec *spec, char tag, char before, char *rest) {
    uint64_t number = 0;
    if ((before == 'n') != (tag == 'v'))
        return "an environment variable is not a name and a value";
    if ((before == 'w' || before == 'r' || before == 'P') != (tag == 'g'))
        return "a preopen is not a host directory and a guest path";
    if ((before == 'W' || before == 'R') != (tag == 'G'))
        return "a file is not a host file and a guest path";
    if (tag == 'B' && before != 'g' && before != 'G')
        return "a path is in no directory";
    switch (tag) {
    case 'k':
        spec->is_component = strcmp(rest, "component") == 0;
        return spec->is_component || strcmp(rest, "module") == 0 ? NULL : "unknown kind of code";
    case 'm':
        spec->code = rest;
        return NULL;
    case 'l':
        spec->log_path = rest;
        return NULL;
    case 'b':
        if (!to_number(rest, &spec->log_max_bytes) || spec->log_max_bytes == 0)
            return "the log's size is no positive number";
        return NULL;
    case 'f':
        if (!to_number(rest, &number) || number == 0 || number > 1000000)
            return "the number of log files is no number from 1 to 1000000";
        spec->log_max_files = (unsigned)number;
        return NULL;
    case 'y':
        if (!to_number(rest, &number))
            return "the memory limit is no number";
        spec->memory_limit = (int64_t)number;
        return NULL;
    case 'z':
        if (!to_number(rest, &number) || number == 0 || number > RUNS_MAX)
            return "the number of runs is no number from 1 to 1000";
        spec->runs = (unsigned)number;
        return NULL;
    case 'a':
        spec->arguments[spec->argument_count++] = rest;
        return NULL;
    case 'n':
        spec->names[spec->variable_count] = rest;
        return NULL;
    case 'v':
        spec->values[spec->variable_count++] = rest;
        return NULL;
    case 'w':
    case 'r':
    case 'P':
        spec->preopens[spec->preopen_count].host = rest;
        spec->preopens[spec->preopen_count].writable = tag == 'w';
        return NULL;
    case 'g':
        spec->preopens[spec->preopen_count++].guest = rest;
        return NULL;
    case 'B':
        if (before == 'g')
            spec->preopens[spec->preopen_count - 1].beneath = rest;
        return NULL;
    case 'o':
        spec->root = rest;
        return NULL;
    case 'd':
        spec->working_directory = rest;
        return NULL;
    case 'e':
        // The last number stands for none (chown(2)).
        if (!to_number(rest, &number) || number >= UINT32_MAX)
            return "a number of the identity is none";
        spec->identity[spec->identity_count++] = (unsigned)number;
        return NULL;
    case 's':
        spec->stop_directory = rest;
        return NULL;
    case 'h':
        spec->cgroups[spec->cgroup_count++] = rest;
        return NULL;
    case 'O':
        spec->oom_score_adj = rest;
        return NULL;
    case 'R':
        spec->has_read_only_file = true;
        return NULL;
    case 'q':
        spec->asks_for_processor = strcmp(rest, "0") != 0;
        return NULL;
    case 'j':
    case 'W':
    case 'G':
    case 'x':
    case 'N':
    case 'Y':
    case 'X':
    case 'Q':
    case 'K':
    case 'Z':
        return NULL;
    default:
        if (flag(spec, tag) == NULL)
            return "unknown field";
        *flag(spec, tag) = true;
        return *rest == 0 ? NULL : "a field that is there or not has more to it";
    }
}

static void add_working_directory(struct spec *spec) {
    static char name[] = "PWD";
    for (size_t i = 0; i < spec->variable_count; i++)
        if (strcmp(spec->names[i], name) == 0)
            return;
    spec->names[spec->variable_count] = name;
    spec->values[spec->variable_count++] = spec->working_directory;
}

const char *spec_decode(char *text, size_t size, struct spec *spec) {
    *spec = (struct spec){.memory_limit = -1, .runs = 1};
    if (size < sizeof SPEC_FORMAT || memcmp(text, SPEC_FORMAT, sizeof SPEC_FORMAT) != 0)
        return "not a container spec of this format";
    // Nothing below can run past the end: the last string is known, and ends in NUL.
    if (size < sizeof SPEC_FORMAT + 2 || memcmp(text + size - 3, "\0.", 3) != 0)
        return "cut short";
    char *at = text + sizeof SPEC_FORMAT, *end = text + size - 2, before = 0;
    if (!allocate(spec, at, end))
        return "out of memory";
    while (at < end) {
        size_t length = strlen(at);
        const char *wrong = take(spec, *at, before, at + (length > 0));
        if (wrong != NULL)
            return wrong;
        before = *at;
        at += length + 1;
    }
    if (before == 'n' || before == 'w' || before == 'r' || before == 'P' || before == 'W' || before == 'R')
        return "ends within a pair";
    if (spec->identity_count == 1)
        return "the identity is a user without a group";
    if (spec->code == NULL || spec->log_max_bytes == 0 || spec->log_max_files == 0)
        return "compiled code or the log's limits are missing";
    if (spec->working_directory != NULL)
        add_working_directory(spec);
    return NULL;
}

const char *spec_read(int directory, const char *name, struct spec *spec) {
    *spec = (struct spec){.memory_limit = -1, .runs = 1};
    int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return strerror(errno);
    const char *wrong = NULL;
    char *text = NULL;
    size_t used = 0;
    struct stat status;
    if (fstat(fd, &status) < 0)
        wrong = strerror(errno);
    else if (status.st_size > SPEC_MAX)
        wrong = "larger than 16 MiB";
    else if ((text = malloc((size_t)status.st_size + 1)) == NULL)
        wrong = "out of memory";
    while (wrong == NULL && used < (size_t)status.st_size) {
        ssize_t got = read(fd, text + used, (size_t)status.st_size - used);
        if (got < 0 && errno != EINTR)
            wrong = strerror(errno);
        if (got == 0)
            break;
        used += got > 0 ? (size_t)got : 0;
    }
    close(fd);
    return wrong != NULL ? wrong : spec_decode(text, used, spec);
}

void spec_free(struct spec *spec) {
    free(spec->arguments);
    free(spec->names);
    free(spec->values);
    free(spec->preopens);
    free(spec->identity);
    free(spec->cgroups);
}
