// Exits with the code that is its first argument.
#include <stdlib.h>

int main(int count, char **arguments) {
    return count > 1 ? atoi(arguments[1]) : 0;
}
