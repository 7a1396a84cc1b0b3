// Decodes specs: reads them from standard input, each as its size (4 bytes, little endian) and its bytes;
// answers each likewise, with the decoded fields as NUL-terminated strings, or `!` and what is wrong.
#include "spec.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put(FILE *out, const char *text) {
    fwrite(text, 1, strlen(text) + 1, out);
}

static void answer(FILE *out, const struct spec *spec) {
    fprintf(out, "%s%c%llu%c%u%c%lld%c", spec->is_component ? "component" : "module", 0,
            (unsigned long long)spec->log_max_bytes, 0, spec->log_max_files, 0, (long long)spec->memory_limit, 0);
    fprintf(out, "%s%s%s%s%s%s%c", spec->input ? "input " : "", spec->input_once ? "once " : "",
            spec->terminal ? "terminal " : "", spec->attended ? "attended " : "", spec->network ? "network " : "",
            spec->read_only_root ? "read-only " : "", 0);
    for (size_t i = 0; i < spec->identity_count; i++)
        fprintf(out, "%u ", spec->identity[i]);
    put(out, "");
    for (size_t i = 0; i < spec->cgroup_count; i++)
        put(out, spec->cgroups[i]);
    put(out, spec->oom_score_adj != NULL ? spec->oom_score_adj : "(none)");
    fprintf(out, "%u%c", spec->runs, 0);
    put(out, spec->stop_directory != NULL ? spec->stop_directory : "(none)");
    put(out, spec->has_read_only_file ? "protected" : "");
    put(out, spec->code);
    put(out, spec->log_path != NULL ? spec->log_path : "(none)");
    put(out, spec->root != NULL ? spec->root : "(none)");
    for (size_t i = 0; i < spec->argument_count; i++)
        put(out, spec->arguments[i]);
    put(out, "");
    for (size_t i = 0; i < spec->variable_count; i++) {
        put(out, spec->names[i]);
        put(out, spec->values[i]);
    }
    put(out, "");
    for (size_t i = 0; i < spec->preopen_count; i++) {
        put(out, spec->preopens[i].writable ? "rw" : "ro");
        put(out, spec->preopens[i].host);
        put(out, spec->preopens[i].guest);
        put(out, spec->preopens[i].beneath != NULL ? spec->preopens[i].beneath : "");
    }
}

int main(void) {
    for (;;) {
        unsigned char head[4];
        if (fread(head, 1, sizeof head, stdin) != sizeof head)
            return 0;
        size_t size = (size_t)head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
        // Exactly as large as what is decoded, so that a sanitizer sees a byte read beyond it.
        char *text = malloc(size > 0 ? size : 1), *result = NULL;
        size_t result_size = 0;
        if (text == NULL || fread(text, 1, size, stdin) != size)
            return 1;
        struct spec spec;
        const char *wrong = spec_decode(text, size, &spec);
        FILE *out = open_memstream(&result, &result_size);
        if (wrong != NULL)
            fprintf(out, "!%s", wrong);
        else
            answer(out, &spec);
        fclose(out);
        for (int shift = 0; shift < 32; shift += 8)
            putchar((int)(result_size >> shift & 0xff));
        fwrite(result, 1, result_size, stdout);
        fflush(stdout);
        spec_free(&spec);
        free(text);
        free(result);
    }
}
