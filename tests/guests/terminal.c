/* What a guest sees of its terminal: says hello, then answers each line of its input with it, until the end. */

#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(void)
{
    char line[256];
    setvbuf(stdout, NULL, _IONBF, 0);
    printf("terminal %d %d %d\n", isatty(0), isatty(1), isatty(2));
    while (fgets(line, sizeof line, stdin) != NULL)
        printf("heard %s", line);
    printf("bye\n");
    return 3;
}
