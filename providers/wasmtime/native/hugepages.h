// The library in large pages.
#pragma once

// Have what is only read of the library that was loaded from `path`, its code above all, in the kernel's largest
// pages where it gives us any: a forked process has one entry for two megabytes in place of mapping the pages again
// that it comes to, and unmapping them at its end, which was a fifth of what a short process cost. It takes the
// launcher as much memory as that is, once.
void hugepages_use(const char *path);
