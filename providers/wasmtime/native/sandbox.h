// What a container's process gives up before the guest's first instruction.
#pragma once
#include "spec.h"

// Enter the sandbox, as whom the spec says. Only the calling thread is sure to be in it: it must be the only one.
// NULL, or the name of the step that failed, with the cause in errno.
const char *sandbox_enter(const struct spec *spec);
