// In the place of sandbox.c, for the launcher that the benchmark compares the shipped one with: containers run without.
#include "sandbox.h"

#include <unistd.h>

const char *sandbox_find(void) {
    return NULL;
}

bool sandbox_is_alone(void) {
    return false;
}

uid_t sandbox_user(void) {
    return geteuid();
}

void sandbox_tell(FILE *out) {
    (void)out;
}

const char *sandbox_enter(const struct spec *spec, const struct reach *reach, size_t count) {
    (void)spec, (void)reach, (void)count;
    return NULL;
}
