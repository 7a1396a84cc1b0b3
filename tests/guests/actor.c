/* A guest that does what its arguments say, one after the other:
 *   print TEXT   error TEXT   sleep SECONDS   env NAME   args   lines N   exit CODE   trap   grow MIB
 *   hear (answers each line of its input, to its end)   write FILE=TEXT   append FILE=TEXT   read FILE
 *   await FILE (until there is such a file)
 * It exists so that a pod's spec alone decides what its container does. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int grow(long mebibytes)
{
    for (long pages = 0; pages < mebibytes * 16; pages++) {
        if (__builtin_wasm_memory_grow(0, 1) == (size_t)-1) {
            fprintf(stderr, "no memory after %ld MiB\n", pages / 16);
            abort();
        }
    }
    printf("grew %ld MiB\n", mebibytes);
    return 0;
}

static void hear(void)
{
    char line[4096];
    while (fgets(line, sizeof line, stdin) != NULL) {
        printf("heard %s", line);
        fflush(stdout);
    }
    puts("heard the end");
}

static void save(const char *operand, const char *mode)
{
    const char *text = strchr(operand, '=');
    char name[256];
    snprintf(name, sizeof name, "%.*s", (int)(text - operand), operand);
    FILE *file = fopen(name, mode);
    if (file == NULL) {
        printf("cannot write %s: %s\n", name, strerror(errno));
        return;
    }
    fputs(text + 1, file);
    fclose(file);
}

static void show(const char *name)
{
    FILE *file = fopen(name, "r");
    if (file == NULL) {
        printf("cannot read %s: %s\n", name, strerror(errno));
        return;
    }
    char text[4096];
    size_t size = fread(text, 1, sizeof text, file);
    printf("%s: %.*s\n", name, (int)size, text);
    fclose(file);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i < argc; i++) {
        const char *verb = argv[i];
        const char *operand = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(verb, "args") == 0) {
            for (int j = 0; j < argc; j++)
                printf("argv[%d]=%s\n", j, argv[j]);
            continue;
        }
        if (strcmp(verb, "hear") == 0) {
            hear();
            continue;
        }
        if (strcmp(verb, "trap") == 0)
            __builtin_trap();
        i++;
        if (strcmp(verb, "print") == 0) {
            puts(operand);
        } else if (strcmp(verb, "error") == 0) {
            fprintf(stderr, "%s\n", operand);
        } else if (strcmp(verb, "sleep") == 0) {
            usleep((useconds_t)(atof(operand) * 1e6));
        } else if (strcmp(verb, "env") == 0) {
            const char *value = getenv(operand);
            printf("%s=%s\n", operand, value != NULL ? value : "(not set)");
        } else if (strcmp(verb, "lines") == 0) {
            for (long n = 0; n < atol(operand); n++)
                printf("line %ld\n", n);
        } else if (strcmp(verb, "grow") == 0) {
            grow(atol(operand));
        } else if (strcmp(verb, "write") == 0) {
            save(operand, "w");
        } else if (strcmp(verb, "append") == 0) {
            save(operand, "a");
        } else if (strcmp(verb, "read") == 0) {
            show(operand);
        } else if (strcmp(verb, "await") == 0) {
            while (access(operand, F_OK) != 0)
                usleep(10000);
        } else if (strcmp(verb, "exit") == 0) {
            return atoi(operand);
        } else {
            fprintf(stderr, "unknown verb: %s\n", verb);
            return 2;
        }
    }
    return 0;
}
