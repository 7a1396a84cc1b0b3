// Says so, and sleeps for a day.
#include <stdio.h>
#include <unistd.h>

int main(void) {
    puts("sleeping");
    fflush(stdout);
    sleep(24 * 60 * 60);
    return 0;
}
