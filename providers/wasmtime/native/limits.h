// The limit of a guest's linear memory.
#pragma once
#include "library.h"

// Limit each linear memory in `store` to `limit` bytes, -1 for no limit. A guest that asks for more than that is
// ended, as a process is that exceeds its memory: the call into it fails, and limits_exceeded() knows the text.
// False if this library cannot be told to.
bool limits_set(struct wasmtime_store *store, int64_t limit);

// There is no store any more.
void limits_forget(void);

// The guest's memory has a maximum of its own, in bytes. Where that is the lower one, asking for more fails as
// the guest expects it to, and does not end it.
void limits_own_maximum(uint64_t maximum);

// Let the limit be changed while the guest runs: the file `memory-limit` in `directory` holds the new one, as
// digits and a NUL, or `-` and a NUL for none, and SIGURG, which is else ignored, says that it is new.
// False with the cause in errno.
bool limits_watch(int directory);

// Whether an error's text tells that the limit ended the guest; then `message` says how.
bool limits_exceeded(const char *text, size_t size, char *message, size_t message_size);
