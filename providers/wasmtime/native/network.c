#include "network.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

// The library's C interface lets addresses be used and names be looked up, and has no function that allows the
// use of TCP and UDP, which its Rust interface has. All three are booleans, side by side in the configuration,
// where the first is found by what its function changes. Nothing is known of other versions: this
// program takes no library but the one that it was built for, and a test binds a socket with it.
bool network_allow(struct wasi_config_t *config) {
    enum { PERMISSIONS = 3 };
    wasi_config_inherit_network(config);
    unsigned char *now = (unsigned char *)config;
    size_t size = malloc_usable_size(config), changed = 0, at = 0;
    unsigned char *before = malloc(size);
    if (before == NULL)
        return false;
    memcpy(before, now, size);
    wasi_config_allow_ip_name_lookup(config, true);
    for (size_t i = 0; i < size; i++) {
        if (before[i] != now[i]) {
            changed++;
            at = i;
        }
    }
    free(before);
    if (changed != 1 || at + PERMISSIONS > size || now[at] != 1 || now[at + 1] != 0 || now[at + 2] != 0)
        return false;
    memset(now + at, 1, PERMISSIONS);
    return true;
}
