// Files by which the kernel is told something, of /proc and of cgroups.
#pragma once
#include <stdbool.h>

// Tell it, by one write. False and errno, if it does not take that.
bool kernel_tell(const char *path, const char *text);
