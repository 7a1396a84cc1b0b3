// Runs a fuzzer where there is no libFuzzer: `fuzz RUNS SEED FILE...` tries the files, and RUNS inputs that are made of
// them by chance, the same for the same seed. With libFuzzer (`clang -fsanitize=fuzzer,address`) this file is left out.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILES = 64, SIZE = 1 << 16 };

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static struct input {
    unsigned char data[SIZE];
    size_t size;
} files[FILES], made;
static size_t file_count;
static uint64_t state;

// xorshift64 (Marsaglia 2003).
static size_t chance(size_t below) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return below > 0 ? (size_t)(state % below) : 0;
}

static void remove_some(size_t at, size_t size) {
    size = size < made.size - at ? size : made.size - at;
    memmove(made.data + at, made.data + at + size, made.size - at - size);
    made.size -= size;
}

static void insert(size_t at, const unsigned char *data, size_t size) {
    if (size > SIZE - made.size)
        return;
    memmove(made.data + at + size, made.data + at, made.size - at);
    memcpy(made.data + at, data, size);
    made.size += size;
}

static void mutate(void) {
    const struct input *other = &files[chance(file_count)];
    size_t at = chance(made.size), from = chance(other->size);
    unsigned char byte = (unsigned char)chance(256), letter = (unsigned char)(' ' + chance(95));
    switch (chance(7)) {
    case 0:
        remove_some(at, 1 + chance(8));
        break;
    case 1:
        insert(at, &byte, 1);
        break;
    case 2:
        insert(at, other->data + from, chance(other->size - from + 1));
        break;
    case 3:
        made.size = at;
        break;
    case 4:
        remove_some(at, chance(made.size));
        break;
    default:
        if (at < made.size)
            made.data[at] = chance(3) == 0 ? byte : chance(3) == 0 ? 0 : letter;
    }
}

int main(int count, char **arguments) {
    if (count < 4)
        return 2;
    state = strtoull(arguments[2], NULL, 10) + 1;
    for (int i = 3; i < count && file_count < FILES; i++) {
        FILE *file = fopen(arguments[i], "rb");
        if (file == NULL)
            return 2;
        files[file_count].size = fread(files[file_count].data, 1, SIZE, file);
        fclose(file);
        LLVMFuzzerTestOneInput(files[file_count].data, files[file_count].size);
        file_count++;
    }
    for (unsigned long run = strtoul(arguments[1], NULL, 10); run > 0; run--) {
        made = files[chance(file_count)];
        for (size_t i = 1 + chance(6); i > 0; i--)
            mutate();
        LLVMFuzzerTestOneInput(made.data, made.size);
    }
    puts("done");
    return 0;
}
