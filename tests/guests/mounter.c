/* A guest that looks at files and changes them, as its arguments say, one after the other:
 *   read FILE   list DIRECTORY   write FILE=TEXT   link PATH=TARGET   make DIRECTORY
 *   fill FILE=BYTES (until it is that large or cannot grow)
 *   until FILE=TEXT (until that is what it holds)   absent FILE (until it is not there)
 *   await FILE (until it can be read)
 *   stay (does nothing more, and does not end)
 * It exists to see volumes as a guest does: what is there, what changes under it, and what it may not do. */

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char text[65536];

static const char *split(char *operand)
{
    char *value = strchr(operand, '=');
    if (value == NULL)
        return "";
    *value = 0;
    return value + 1;
}

static int load(const char *name)
{
    FILE *file = fopen(name, "r");
    if (file == NULL)
        return 0;
    size_t size = fread(text, 1, sizeof text - 1, file);
    text[size] = 0;
    fclose(file);
    return 1;
}

static int compare(const void *one, const void *other)
{
    return strcmp(*(char *const *)one, *(char *const *)other);
}

static void list(const char *name)
{
    DIR *directory = opendir(name);
    if (directory == NULL) {
        printf("cannot list %s: %s\n", name, strerror(errno));
        return;
    }
    char *names[256];
    size_t count = 0;
    for (struct dirent *entry; count < 256 && (entry = readdir(directory)) != NULL;)
        if (entry->d_name[0] != '.')
            names[count++] = strdup(entry->d_name);
    closedir(directory);
    qsort(names, count, sizeof *names, compare);
    printf("%s has", name);
    for (size_t i = 0; i < count; i++)
        printf(" %s", names[i]);
    printf("\n");
}

static void put(const char *name, const char *value)
{
    FILE *file = fopen(name, "w");
    if (file == NULL || fputs(value, file) < 0 || fclose(file) != 0)
        printf("cannot write %s: %s\n", name, strerror(errno));
    else
        printf("wrote %s\n", name);
}

static void fill(const char *name, long bytes)
{
    FILE *file = fopen(name, "w");
    long done = 0;
    if (file == NULL) {
        printf("cannot write %s: %s\n", name, strerror(errno));
        return;
    }
    setvbuf(file, NULL, _IONBF, 0);
    memset(text, 'x', 4096);
    while (done < bytes && fwrite(text, 1, 4096, file) == 4096)
        done += 4096;
    printf("%s: %s\n", name, done < bytes ? strerror(errno) : "filled");
    fclose(file);
}

static void pause_a_little(void)
{
    usleep(20000);
}

int main(int count, char **arguments)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i < count; i++) {
        const char *command = arguments[i];
        char *operand = i + 1 < count ? arguments[i + 1] : "";
        if (strcmp(command, "stay") == 0)
            for (;;)
                sleep(3600);
        i++;
        if (strcmp(command, "read") == 0) {
            if (load(operand))
                printf("%s: %s\n", operand, text);
            else
                printf("cannot read %s: %s\n", operand, strerror(errno));
        } else if (strcmp(command, "list") == 0) {
            list(operand);
        } else if (strcmp(command, "write") == 0) {
            const char *value = split(operand);
            put(operand, value);
        } else if (strcmp(command, "fill") == 0) {
            const char *value = split(operand);
            fill(operand, atol(value));
        } else if (strcmp(command, "make") == 0) {
            printf("%s: %s\n", operand, mkdir(operand, 0777) == 0 ? "made" : strerror(errno));
        } else if (strcmp(command, "link") == 0) {
            const char *target = split(operand);
            printf("%s: %s\n", operand, symlink(target, operand) == 0 ? "linked" : strerror(errno));
        } else if (strcmp(command, "until") == 0) {
            const char *value = split(operand);
            while (!load(operand) || strcmp(text, value) != 0)
                pause_a_little();
            printf("%s became %s\n", operand, value);
        } else if (strcmp(command, "await") == 0) {
            while (!load(operand))
                pause_a_little();
            printf("%s is readable\n", operand);
        } else if (strcmp(command, "absent") == 0) {
            while (access(operand, F_OK) == 0)
                pause_a_little();
            printf("%s is gone\n", operand);
        }
    }
    return 0;
}
