// What the sanitizers are told, in the program itself, since the launcher gets no environment. The library
// handles faults of guests as traps, and a container's process frees nothing before its end.
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
    return "detect_leaks=0:handle_segv=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0:use_sigaltstack=0:"
           "abort_on_error=1";
}
