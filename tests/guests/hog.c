// Takes memory in pieces of so many bytes (first argument) until it is refused, and then aborts, or exits
// with the code that is its second argument.
#include <stdio.h>
#include <stdlib.h>

int main(int count, char **arguments) {
    size_t size = (size_t)atol(arguments[1]);
    for (;;) {
        // Volatile: else the compiler sees that nobody needs the memory, and takes none.
        volatile char *piece = malloc(size);
        if (piece == NULL)
            break;
        piece[size - 1] = 1;
    }
    fputs("refused\n", stderr);
    if (count > 2)
        exit(atoi(arguments[2]));
    abort();
}
