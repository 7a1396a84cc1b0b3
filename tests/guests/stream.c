// Writes each argument as it is, with one write(2): to standard error if it begins with "e", else to
// standard output; without the first character.
#include <string.h>
#include <unistd.h>

int main(int count, char **arguments) {
    for (int i = 1; i < count; i++) {
        const char *text = arguments[i] + 1;
        if (write(arguments[i][0] == 'e' ? 2 : 1, text, strlen(text)) < 0)
            return 1;
    }
    return 0;
}
