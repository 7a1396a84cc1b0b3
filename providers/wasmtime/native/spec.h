// What a container is to be: the file that the agent writes into its directory.
//
// The file is a sequence of NUL-terminated strings. The first is SPEC_FORMAT and the last is a lone dot,
// which tells that the file is whole; the first byte of every other one says what the rest is:
//
//   k  kind, "module" or "component"      n  name of an environment variable, followed by
//   m  compiled code, a path              v  its value
//   l  log file, a path, if any           w  host directory, writable, or
//   b  log's size in bytes                r  host directory, read-only, followed by
//   f  number of log files                g  the guest's path of it
//   y  memory limit in bytes, if any      j  labels, which are the agent's own business
//   a  one argument                       d  PWD, unless it is in the environment
//   o  host directory that is the guest's root, in the place of one of its own
//   e  a number of the identity: user, group, and every supplementary group
//   s  host directory where it is asked to stop, which the guest has as /.vkubelet, if it is
//   h  file of a cgroup that the process joins by writing 0 to it
//   B  path in the directory before it, which is meant and must not lead out of it, if it is not all of it
//   P  host directory, read-only, followed by g, which the guest has from the node itself
//   O  how ready the kernel is to kill the process for want of memory, if it is told
//   z  how often the guest is run, if not once: each time that it is asked for; see again.h
//
// those that are the agent's own business too,
//
//   W  host file, writable, or            x  processor time, in thousandths
//   R  host file, read-only, followed by  q  the same that is requested, of which is seen whether it is any
//   G  the guest's path of it
//   N  name of the group it is in, if it is in one, and what all in it may use:
//   Y  memory in bytes   X  processor time, in thousandths   Q  the same that is requested
//   K  number of containers for whose runtime there is room beside Y   Z  number of processes and threads
//
// and of those that say all by being there, with nothing behind them,
//
//   i  standard input can come from those who attach
//   c  it ends when the first of them has gone
//   t  the standard files are a terminal
//   A  what it shows waits for the first who attaches, for some seconds
//   u  the host's network can be used
//   p  the guest's root directory is read-only
//
// Without a log the standard files are those that the process was given.
//
// Nothing that reaches a guest can hold a NUL, as nothing that reaches a process can.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SPEC_FORMAT "vkubelet container 1"

struct preopen {
    char *host;
    char *guest;
    char *beneath; // NULL for all of `host`
    bool writable;
};

struct spec {
    char *code;
    bool is_component;
    char *log_path; // NULL for none
    uint64_t log_max_bytes;
    unsigned log_max_files;
    int64_t memory_limit; // -1 for none
    char *oom_score_adj;  // NULL for none
    char *root;           // NULL for one of its own
    char *working_directory;
    char *stop_directory; // NULL for none
    unsigned runs;        // 1 for a guest that is run at once
    bool input, input_once, terminal, attended, network, read_only_root, has_read_only_file;
    size_t identity_count; // 0, or 2 and as many as there are supplementary groups
    unsigned *identity;
    bool asks_for_processor;
    size_t cgroup_count;
    char **cgroups;
    size_t argument_count;
    char **arguments;
    size_t variable_count;
    char **names;
    char **values;
    size_t preopen_count;
    struct preopen *preopens;
};

// Decode `size` bytes of `text`. The spec points into `text`. NULL, or what is wrong.
const char *spec_decode(char *text, size_t size, struct spec *spec);

// Read and decode the file `name`. What is read is never freed: a container needs it to its end.
// NULL, or what is wrong.
const char *spec_read(int directory, const char *name, struct spec *spec);

// Free the arrays of a decoded spec.
void spec_free(struct spec *spec);
