/* Counts in a file, and says each number once it is there:
 *   counter FILE SECONDS
 * It exists so that a test can see whether a container lost its file, ran twice at a time or went back: each
 * number is said once, whenever the process is killed, and by one process only. */

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    char fresh[256];
    snprintf(fresh, sizeof fresh, "%s.new", argv[1]);
    for (;;) {
        long number = 0;
        FILE *file = fopen(argv[1], "r");
        if (file != NULL) {
            if (fscanf(file, "%ld", &number) != 1)
                return 3;
            fclose(file);
        }
        number++;
        file = fopen(fresh, "w");
        if (file == NULL || fprintf(file, "%ld\n", number) < 0 || fclose(file) != 0)
            return 4;
        if (rename(fresh, argv[1]) != 0)
            return 5;
        printf("%ld\n", number);
        fflush(stdout);
        usleep((useconds_t)(atof(argv[2]) * 1e6));
    }
}
