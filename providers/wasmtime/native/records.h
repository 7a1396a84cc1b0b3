// What a container's process leaves in its directory, for whoever asks later.
//
// Each record is a file of NUL-terminated strings, written under another name and renamed, so that it is
// either whole or not there.
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { MESSAGE_MAX = 4096 };

// How a container ended. `started_at` is 0 if the guest's first instruction was never reached.
struct ending {
    int code;
    const char *reason;
    int signal;
    uint64_t started_at;
    uint64_t finished_at;
    char message[MESSAGE_MAX + 1];
};

// Nanoseconds since the epoch.
uint64_t now(void);

// When the process `pid` started, in clock ticks since boot: field 22 of proc_pid_stat(5). 0 if it is gone.
uint64_t process_start_time(pid_t pid);

// The calling process, as its host numbers it: in a namespace of its own it has another number. Known from
// `record_started` on, and in the launcher.
pid_t process_number(void);

// Claim the container whose directory this is for the calling process. It can be claimed once, ever;
// false with EEXIST in errno if it was.
bool record_started(int directory, uint64_t started_at);

// Leave the exit record. False with the cause in errno.
bool record_exit(int directory, const struct ending *ending);
