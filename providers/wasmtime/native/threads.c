#include "threads.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>

static unsigned made;
static bool refused;

// The library says of a thread that it cannot make why not, and aborts: what is recorded then is a signal. This
// function, which the program exports, comes before the C library's when the library is loaded, and knows the cause.
__attribute__((visibility("default"))) int pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                                                          void *(*run)(void *), void *argument) {
    int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = NULL;
    *(void **)&next = dlsym(RTLD_NEXT, "pthread_create");
    int error = next == NULL ? ENOSYS : next(thread, attributes, run, argument);
    if (error == 0)
        __atomic_add_fetch(&made, 1, __ATOMIC_RELAXED);
    else if (error == EAGAIN)
        __atomic_store_n(&refused, true, __ATOMIC_RELEASE);
    return error;
}

void threads_of_guest(void) {
    __atomic_store_n(&made, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&refused, false, __ATOMIC_RELEASE);
}

bool threads_refused(bool *first) {
    *first = __atomic_load_n(&made, __ATOMIC_RELAXED) == 0;
    return __atomic_load_n(&refused, __ATOMIC_ACQUIRE);
}
