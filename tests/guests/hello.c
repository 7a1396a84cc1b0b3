// Says hello on both of its streams.
#include <stdio.h>

int main(void) {
    puts("hello from a guest");
    fputs("hello from its other stream\n", stderr);
    return 0;
}
