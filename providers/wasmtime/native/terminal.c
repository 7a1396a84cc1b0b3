#include "terminal.h"

#include "guest.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static int32_t failure(void) {
    return errno == ENOTTY || errno == EINVAL ? WASI_NOTTY : WASI_IO;
}

static int32_t set_raw(bool enable) {
    static struct termios before;
    static bool is_raw;
    struct termios mode;
    if (tcgetattr(STDIN_FILENO, &mode) < 0)
        return failure();
    if (enable == is_raw)
        return WASI_SUCCESS;
    if (enable) {
        before = mode;
        mode.c_iflag &= ~(tcflag_t)(BRKINT | ICRNL | IGNCR | INLCR | ISTRIP | IXON | PARMRK);
        mode.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | IEXTEN | ISIG);
        mode.c_cc[VMIN] = 1;
        mode.c_cc[VTIME] = 0;
    }
    // Output is drained and no input is lost: what was typed ahead is the guest's.
    if (tcsetattr(STDIN_FILENO, TCSADRAIN, enable ? &mode : &before) < 0)
        return failure();
    is_raw = enable;
    return WASI_SUCCESS;
}

static size_t on_set_raw(void *data, struct wasmtime_caller *caller, union wasmtime_val_raw *values, size_t count) {
    (void)data, (void)caller, (void)count;
    values[0].i32 = set_raw(values[0].i32 != 0);
    return 0;
}

static size_t on_get_size(void *data, struct wasmtime_caller *caller, union wasmtime_val_raw *values, size_t count) {
    (void)data, (void)count;
    struct winsize size;
    uint32_t rows = (uint32_t)values[0].i32, columns = (uint32_t)values[1].i32;
    if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) < 0)
        values[0].i32 = failure();
    else
        values[0].i32 = guest_put(caller, rows, size.ws_row) && guest_put(caller, columns, size.ws_col) ? WASI_SUCCESS : WASI_FAULT;
    return 0;
}

const char *terminal_define(struct wasmtime_linker *linker) {
    static const char module[] = "vkubelet_terminal";
    if (!guest_define(linker, module, "set_raw", 1, 1, on_set_raw) ||
        !guest_define(linker, module, "get_size", 2, 1, on_get_size))
        return "the functions for terminals cannot be linked";
    return NULL;
}
