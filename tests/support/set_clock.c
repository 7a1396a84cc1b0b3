/* A time of day that a test sets, for all processes that have this preloaded: SET_CLOCK names a file of eight
 * bytes, the seconds that it is ahead.
 *
 * It exists because a time namespace sets no time of day, and a test may not set the machine's. The file stays
 * mapped, so that a process that may open none any more follows it, too. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *ahead;

__attribute__((constructor)) static void find(void)
{
    const char *path = getenv("SET_CLOCK");
    int file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return;
    void *content = mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (content != MAP_FAILED)
        ahead = content;
}

int clock_gettime(clockid_t clock, struct timespec *found)
{
    long failed = syscall(SYS_clock_gettime, clock, found);
    if (failed == 0 && clock == CLOCK_REALTIME && ahead != NULL)
        found->tv_sec += *ahead;
    return (int)failed;
}

time_t time(time_t *found)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (found != NULL)
        *found = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict found, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    *found = (struct timeval){.tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / 1000};
    return 0;
}
