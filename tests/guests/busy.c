/* Burns processor time until there is a file /idle, then waits for that file to go, and so on. It says "busy" and
 * "idle" when it begins to be so. */
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    LOOK = 1 << 22,     /* rounds between two looks at the file: some milliseconds */
    PAUSE = 100 * 1000, /* microseconds between two looks while idle */
};

static int idle(void) {
    struct stat found;
    return stat("/idle", &found) == 0;
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (;;) {
        puts("busy");
        volatile unsigned sum = 0;
        while (!idle())
            for (unsigned round = 0; round < LOOK; round++)
                sum += round;
        puts("idle");
        while (idle())
            usleep(PAUSE);
    }
}
