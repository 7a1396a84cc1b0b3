// Does as it is told with files: `write PATH TEXT`, `read PATH`, `list PATH`, any number of them.
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static int fail(const char *what, const char *path) {
    printf("%s %s: %s\n", what, path, strerror(errno));
    return 1;
}

int main(int count, char **arguments) {
    int failures = 0;
    for (int i = 1; i + 1 < count; i += 2) {
        const char *path = arguments[i + 1];
        if (strcmp(arguments[i], "write") == 0) {
            FILE *file = fopen(path, "w");
            if (file == NULL || fputs(arguments[i + 2], file) < 0 || fclose(file) != 0)
                failures += fail("write", path);
            i++;
        } else if (strcmp(arguments[i], "read") == 0) {
            char text[256];
            FILE *file = fopen(path, "r");
            if (file == NULL)
                failures += fail("read", path);
            else
                while (fgets(text, sizeof text, file) != NULL)
                    printf("%s: %s\n", path, text);
        } else {
            DIR *directory = opendir(path);
            if (directory == NULL) {
                failures += fail("list", path);
                continue;
            }
            for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
                printf("%s has %s\n", path, entry->d_name);
            closedir(directory);
        }
    }
    return failures;
}
