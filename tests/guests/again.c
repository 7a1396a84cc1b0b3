// Tells how often it was run, as far as it knows, what it can read, and then does what the file /data/do says.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int runs;
static char *volatile held;

int main(int count, char **arguments) {
    char what[32] = "";
    FILE *file = fopen("/data/do", "r");
    if (file != NULL && fgets(what, sizeof what, file) == NULL)
        what[0] = 0;
    // Not closed: what it has open is nothing to those that come after it.
    int number = file != NULL ? fileno(file) : -1;
    printf("run %d of %s, file %d, input %d\n", ++runs, count > 1 ? arguments[1] : "", number, getchar());
    fflush(stdout);
    fputs("said\n", stderr);
    if (strcmp(what, "trap") == 0)
        __builtin_trap();
    while (strcmp(what, "grow") == 0 && (held = malloc(1 << 20)) != NULL)
        *held = 1;
    while (strcmp(what, "hang") == 0)
        usleep(100000);
    for (int i = 0; strcmp(what, "much") == 0 && i < 4096; i++)
        printf("%0127d\n", i);
    return atoi(what);
}
