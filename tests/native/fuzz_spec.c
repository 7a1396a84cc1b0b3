// Fuzzes the decoding of specs: whatever an agent's file holds, it is decoded within its bounds or refused, and what is
// decoded keeps to what the launcher takes for granted.
#include "spec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void expect(bool holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    // Exactly as large as what is decoded, so that a sanitizer sees a byte read beyond it.
    char *text = malloc(size > 0 ? size : 1);
    expect(text != NULL, "out of memory");
    memcpy(text, data, size);
    struct spec spec;
    size_t length = 0;
    if (spec_decode(text, size, &spec) == NULL) {
        expect(spec.code != NULL && spec.log_max_bytes > 0 && spec.log_max_files > 0, "something is missing");
        expect(spec.identity_count != 1, "half an identity");
        expect(spec.memory_limit >= -1, "a negative limit");
        for (size_t i = 0; i < spec.argument_count; i++)
            length += strlen(spec.arguments[i]);
        for (size_t i = 0; i < spec.variable_count; i++)
            length += strlen(spec.names[i]) + strlen(spec.values[i]);
        for (size_t i = 0; i < spec.cgroup_count; i++)
            length += strlen(spec.cgroups[i]);
        for (size_t i = 0; i < spec.preopen_count; i++)
            length += strlen(spec.preopens[i].host) + strlen(spec.preopens[i].guest) +
                      (spec.preopens[i].beneath != NULL ? strlen(spec.preopens[i].beneath) : 0);
        expect(length <= 2 * size + strlen("PWD"), "more than there was");
    }
    spec_free(&spec);
    free(text);
    return 0;
}
