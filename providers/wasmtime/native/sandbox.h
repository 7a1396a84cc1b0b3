// What a container's process gives up before the guest's first instruction.
#pragma once

// Enter the sandbox. NULL, or the name of the step that failed, with the cause in errno.
const char *sandbox_enter(void);
