// Looks for the file by which it is asked to stop, and then says so and ends; with an argument, it says so and goes
// on. What the directory holds, and that it can make nothing in it, it says first.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int count, char **arguments) {
    (void)arguments;
    DIR *directory = opendir("/.vkubelet");
    if (directory == NULL)
        return 1;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
        if (entry->d_name[0] != '.')
            printf("there is %s\n", entry->d_name);
    closedir(directory);
    if (open("/.vkubelet/new", O_WRONLY | O_CREAT, 0644) < 0)
        printf("read-only: %s\n", strerror(errno));
    fflush(stdout);
    while (access("/.vkubelet/stop", F_OK) != 0)
        usleep(2000);
    puts("stopping");
    fflush(stdout);
    while (count > 1)
        sleep(1000);
    return 0;
}
