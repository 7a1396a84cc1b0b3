// The network for guests that may use it.
#pragma once
#include "library.h"

// Let the guest use the host's network: TCP, UDP and name lookup. False if this library cannot be told to.
bool network_allow(struct wasi_config_t *config);
