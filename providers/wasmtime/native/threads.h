// Threads that cannot be made.
#pragma once
#include <stdbool.h>

// From here on what is made is the guest's: threads that the library makes to serve it.
void threads_of_guest(void);

// Was one of them refused, as it is where there may be no more processes? The library aborts then, if it cannot do
// without. `first`: it had none, so that the guest has got nothing done.
bool threads_refused(bool *first);
