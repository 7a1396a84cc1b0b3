// What a guest can know of files and of itself that WASI has no part for: the module `vkubelet_system`.
//
//     attributes(path: i32, length: i32, follow: i32, result: i32) -> i32
//         writes four u32: the mode with the kind of the file, its user, its group, and the type of the file system
//         that it is on (statfs(2)); `follow` is 0 for a symbolic link itself
//     space(path: i32, length: i32, result: i32) -> i32
//         writes three u64: the bytes that the file system has on which the file is, those that are free, and those
//         of them that are not kept for root (statfs(2))
//     set_mode(path: i32, length: i32, mode: i32) -> i32
//         of a file in a directory that the guest may write to, which it may read or write itself; bits beyond 01777
//         are refused
//     identity(ids: i32, capacity: i32, count: i32) -> i32
//         writes the user, the group and the supplementary groups that the guest's process has, as u32, so many of
//         them as there is room for, and how many there are
//
// Paths are absolute. Each returns an errno of WASI preview 1.
#pragma once
#include "library.h"
#include <stdbool.h>
#include <stddef.h>

// Define the module. NULL, or what failed.
const char *system_define(struct wasmtime_linker *linker);

// A directory that the guest has.
struct directory {
    const char *guest;
    size_t length; // of `guest`, and 0 for the root directory
    int fd;
    bool writable;
};

// Let the functions see the directory `host`, which the guest has at the absolute path `guest`. Takes the rights of
// whoever made the container. False if it cannot be opened.
bool system_directory(const char *host, const char *guest, bool writable);

// Open what is in a directory, whatever links it meets. -1 with errno if they lead out of it.
int system_open_beneath(int directory, const char *path, int flags);

// All of them.
const struct directory *system_directories(size_t *count);
