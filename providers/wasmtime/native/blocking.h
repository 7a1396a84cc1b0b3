// Working on files in the guest's own thread.
#pragma once
#include "wasmtime_api.h"

// Find out how; once, for all processes to come.
void blocking_find(void);

// Have what the guest does with files done in its own thread, which waits for it anyway. It must come before the
// first directory. Where this library does not let us, it is done by other threads, which takes longer.
void blocking_allow(struct wasi_config_t *config);
