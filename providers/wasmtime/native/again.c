#include "again.h"

#include "wasi.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

// False if nobody will ask any more.
static bool is_asked_for(void) {
    char packet;
    ssize_t got;
    do
        got = read(STDIN_FILENO, &packet, sizeof packet);
    while (got < 0 && errno == EINTR);
    return got > 0;
}

static bool answer(const struct ending *ending) {
    static char packet[1 + MESSAGE_MAX];
    bool is_run = strcmp(ending->reason, "cannot-run") != 0;
    size_t size = is_run ? 0 : strlen(ending->message);
    packet[0] = (char)ending->code;
    memcpy(packet + 1, ending->message, size);
    return write(STDIN_FILENO, packet, 1 + size) == (ssize_t)(1 + size);
}

void again_serve(const struct runtime *runtime, const struct spec *spec, struct ending *ending) {
    static struct ending each;
    for (unsigned run = 0; run < spec->runs && is_asked_for(); run++) {
        each.message[0] = '\0';
        if (run == 0 || wasi_begin(runtime, spec, &each))
            wasi_run(runtime, NULL, &each);
        if (!answer(&each))
            break;
        // Until the next time, which may never come, its memory is nobody's.
        wasi_leave();
    }
    ending->code = 0;
    ending->reason = "completed";
}
