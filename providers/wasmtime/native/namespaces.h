// What a container's process sees of its host: no other process, no file by its path, no network.
//
// Processes are hidden by a namespace of its own, in which it is born. Mounts and the network are those of two
// namespaces that all containers share, since they are empty and nobody in them can change that: to enter one costs a
// start some microseconds, to make one is as dear as there are mounts, or a third of a millisecond.
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

// Enter a namespace of users in which this process, which is not root's, may make the others. The caller must have one
// thread. -1 with the cause in errno; it must not go on then.
int namespaces_of_user(void);

// Become a process for which there is no file by its path, or no network. -1 with the cause in errno.
int namespaces_no_files(void);
int namespaces_no_network(void);

// Whether a child can be born as the first process of a namespace. -1 with the cause in errno.
int namespaces_try_processes(void);

// Make the two that all containers share, or the one of them that is wanted. NULL, or what failed.
const char *namespaces_make(bool files, bool network);

// The descriptors of these, for those who close all others; -1 for one that is not there.
int namespaces_files(void);
int namespaces_network(void);

// Enter them, or the wanted, and close what they are open by. -1 with the cause in errno.
int namespaces_enter_files(bool wanted);
int namespaces_enter_network(bool wanted);
