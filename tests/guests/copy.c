/* Copies standard input to standard output to its end, in pieces of 64 KiB, and says how much on the other. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char buffer[64 * 1024];

int main(void)
{
    long long total = 0;
    for (ssize_t got; (got = read(0, buffer, sizeof buffer)) != 0; total += got) {
        if (got < 0) {
            fprintf(stderr, "read: %s\n", strerror(errno));
            return 1;
        }
        for (ssize_t done = 0, sent; done < got; done += sent) {
            sent = write(1, buffer + done, got - done);
            if (sent < 0) {
                fprintf(stderr, "write: %s\n", strerror(errno));
                return 2;
            }
        }
    }
    fprintf(stderr, "%lld bytes\n", total);
    return 0;
}
