// Logs so many lines (first argument) of so many characters (second), each beginning with its number.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char buffer[64 * 1024];

int main(int count, char **arguments) {
    if (count != 3)
        return 2;
    long lines = atol(arguments[1]), width = atol(arguments[2]);
    char *line = malloc((size_t)width + 32);
    memset(line, '.', (size_t)width + 32);
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    for (long i = 0; i < lines; i++) {
        int digits = sprintf(line, "%ld", i);
        line[digits] = ' ';
        line[width] = '\n';
        fwrite(line, 1, (size_t)width + 1, stdout);
        line[width] = '.';
    }
    return 0;
}
