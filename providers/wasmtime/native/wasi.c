#include "wasi.h"

#include "attach.h"
#include "blocking.h"
#include "exits.h"
#include "limits.h"
#include "network.h"
#include "system.h"

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CODE_CANNOT_RUN = 128, CODE_TRAP = 134, CODE_OUT_OF_MEMORY = 137 };

static void set(struct ending *ending, int code, const char *reason, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void set(struct ending *ending, int code, const char *reason, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(ending->message, sizeof ending->message, format, arguments);
    va_end(arguments);
    ending->code = code;
    ending->reason = reason;
}

// The guest was never reached: say at which step, and why. Consumes the error.
static void cannot_run(struct ending *ending, const char *step, struct wasmtime_error *error) {
    struct wasm_byte_vec_t text = {0, NULL};
    if (error != NULL)
        wasmtime_error_message(error, &text);
    set(ending, CODE_CANNOT_RUN, "cannot-run", "%s%s%.*s", step, error != NULL ? ": " : "", (int)text.size,
        (const char *)text.data);
    ending->started_at = 0;
}

// The guest: a module or a component, its store, and what it sees of the world each time that it is run. Where its
// standard streams go, once there is one.
static struct wasmtime_store *store;
static struct wasi_config_t **worlds;
static struct code code;
static struct log *guest_log;

// The library's own way to standard output that is not a file's hands every 4 KiB to a thread and waits
// for it, which costs a container two threads, half a millisecond, and most of its speed. Its inherited
// streams write at once, to files 1 and 2: this function, which the program exports, comes before the C
// library's when the library is loaded (ld.so(8), symbol lookup), and these two files are the log. What the
// library says when it fails ends up there too.
__attribute__((visibility("default"))) ssize_t write(int fd, const void *data, size_t size) {
    if (guest_log == NULL || (fd != STDOUT_FILENO && fd != STDERR_FILENO))
        return syscall(SYS_write, fd, data, size);
    enum stream stream = fd == STDOUT_FILENO ? STREAM_STDOUT : STREAM_STDERR;
    log_write(guest_log, stream, data, size);
    attach_write(stream, data, size);
    return (ssize_t)size;
}

// Where it is run more than once, the system's functions know its directories from the first time.
static bool directory(struct wasi_config_t *config, char *host, char *guest, bool writable) {
    return wasi_config_preopen_dir(config, host, guest, writable) &&
           (worlds[0] != NULL || system_directory(host, guest, writable));
}

// A directory in which guests make links: what is meant is opened in it, so that no link leads elsewhere, and
// handed on by its number.
static bool directory_beneath(struct wasi_config_t *config, struct preopen *preopen) {
    const int flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
    int host = open(preopen->host, flags);
    int fd = host < 0 ? -1 : system_open_beneath(host, preopen->beneath, flags);
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    bool opened = fd >= 0 && directory(config, path, preopen->guest, preopen->writable);
    if (fd >= 0)
        close(fd);
    if (host >= 0)
        close(host);
    return opened;
}

// What the guest sees of the world: arguments, environment, directories, standard files, and the network if
// it may. NULL with the failed step in `step`.
static struct wasi_config_t *world(const struct spec *spec, char *root, const char **step) {
    struct wasi_config_t *config = wasi_config_new();
    blocking_allow(config);
    *step = "passing arguments (they must be UTF-8)";
    if (!wasi_config_set_argv(config, spec->argument_count, spec->arguments))
        return NULL;
    *step = "passing the environment (it must be UTF-8)";
    if (!wasi_config_set_env(config, spec->variable_count, spec->names, spec->values))
        return NULL;
    static char guest_root[] = "/", guest_stop[] = "/.vkubelet";
    *step = "opening the container's root directory";
    if (!directory(config, root, guest_root, !spec->read_only_root))
        return NULL;
    *step = "opening the directory where it is asked to stop";
    if (spec->stop_directory != NULL && !directory(config, spec->stop_directory, guest_stop, false))
        return NULL;
    for (size_t i = 0; i < spec->preopen_count; i++) {
        struct preopen *preopen = &spec->preopens[i];
        static char text[640];
        bool is_whole = preopen->beneath == NULL;
        snprintf(text, sizeof text, "opening %.200s%s%.100s for %.200s", preopen->host, is_whole ? "" : "/",
                 is_whole ? "" : preopen->beneath, preopen->guest);
        *step = text;
        if (!(is_whole ? directory(config, preopen->host, preopen->guest, preopen->writable)
                       : directory_beneath(config, preopen)))
            return NULL;
    }
    if (spec->runs == 1 && (guest_log == NULL || spec->input))
        wasi_config_inherit_stdin(config);
    *step = "allowing the network, which this library does not let us";
    if (spec->network && !network_allow(config))
        return NULL;
    wasi_config_inherit_stdout(config);
    wasi_config_inherit_stderr(config);
    return config;
}

// The guest called an exit function: our own, or a component's.
static bool exited(struct ending *ending, struct wasmtime_error *error) {
    int status = 0;
    if (!exits_status(&status) && (error == NULL || !wasmtime_error_exit_status(error, &status)))
        return false;
    status &= 0xff; // exit(3)
    set(ending, status, status == 0 ? "completed" : "error", "%s", "");
    return true;
}

// The library puts the cause after the backtrace, where a message that is cut short would lose it.
static void trapped(struct ending *ending, struct log *log, struct wasm_byte_vec_t *bytes) {
    static const char title[] = "\n\nCaused by:\n    ";
    const char *text = (const char *)bytes->data;
    size_t size = bytes->size, trace = size;
    const char *cause = memmem(text, size, title, sizeof title - 1);
    char exceeded[128];
    bool memory = limits_exceeded(text, size, exceeded, sizeof exceeded);
    if (cause != NULL) {
        trace = (size_t)(cause - text);
        cause += sizeof title - 1;
    }
    if (memory) {
        set(ending, CODE_OUT_OF_MEMORY, "out-of-memory", "%s\n%.*s", exceeded, (int)trace, text);
        text = ending->message;
        size = strlen(text);
    } else {
        set(ending, CODE_TRAP, "trap", "%.*s%s%.*s", cause == NULL ? 0 : (int)(text + size - cause),
            cause == NULL ? "" : cause, cause == NULL ? "" : "\n", (int)trace, text);
    }
    // It goes to the log, or to whoever reads standard error, too: people look there first.
    if (log == NULL) {
        signal(SIGPIPE, SIG_IGN); // it ended by its trap, whether that can be read or not
        dprintf(STDERR_FILENO, "%.*s%s", (int)size, text, size > 0 && text[size - 1] == '\n' ? "" : "\n");
        return;
    }
    log_break(log);
    log_write(log, STREAM_STDERR, (const unsigned char *)text, size);
    log_break(log);
    attach_write(STREAM_STDERR, (const unsigned char *)text, size);
}

// The guest was not reached. Its start needs more memory than it may have, or it is one for another node.
static void not_instantiated(struct ending *ending, const char *step, struct wasmtime_error *error) {
    struct wasm_byte_vec_t text = {0, NULL};
    char exceeded[128];
    wasmtime_error_message(error, &text);
    if (limits_exceeded((const char *)text.data, text.size, exceeded, sizeof exceeded)) {
        set(ending, CODE_CANNOT_RUN, "cannot-run", "%s: %s", step, exceeded);
        ending->started_at = 0;
        return;
    }
    cannot_run(ending, step, error);
}

static bool load(const struct runtime *runtime, const struct spec *spec, const struct code *kept,
                 struct ending *ending) {
    code = (struct code){.path = spec->code, .is_component = spec->is_component};
    if (kept != NULL && kept->is_component == code.is_component && strcmp(kept->path, code.path) == 0) {
        code = *kept;
        return true;
    }
    struct wasmtime_error *error = code_load(runtime, &code);
    if (error != NULL)
        cannot_run(ending, code.is_component ? "loading the compiled component" : "loading the compiled module", error);
    return error == NULL;
}

// A memory that says itself how large it may grow at most, as few do.
static void heed_own_maximum(struct wasmtime_context *context, struct wasmtime_instance *instance) {
    static char name[] = "memory";
    struct wasmtime_extern memory;
    uint64_t pages;
    if (!wasmtime_instance_export_get(context, instance, name, strlen(name), &memory) ||
        memory.kind != WASMTIME_EXTERN_MEMORY)
        return;
    struct wasm_memorytype_t *type = wasmtime_memory_type(context, &memory.of.memory);
    uint64_t page = wasmtime_memorytype_page_size(type);
    if (wasmtime_memorytype_maximum(type, &pages) && pages < UINT64_MAX / page)
        limits_own_maximum(pages * page);
}

static void run_module(const struct runtime *runtime, struct wasmtime_context *context, struct log *log,
                       struct ending *ending) {
    struct wasmtime_instance instance;
    struct wasmtime_extern start;
    struct wasm_trap_t *trap = NULL;
    static char name[] = "_start";
    struct wasmtime_error *error =
        code.instance != NULL
            ? wasmtime_instance_pre_instantiate(code.instance, context, &instance, &trap)
            : wasmtime_linker_instantiate(runtime->linker, context, code.module, &instance, &trap);
    bool instantiated = error == NULL && trap == NULL;
    if (instantiated) {
        if (!wasmtime_instance_export_get(context, &instance, name, strlen(name), &start) ||
            start.kind != WASMTIME_EXTERN_FUNC) {
            cannot_run(ending, "finding _start, which the module does not export", NULL);
            return;
        }
        heed_own_maximum(context, &instance);
        error = wasmtime_func_call(context, &start.of.func, NULL, 0, NULL, 0, &trap);
    }
    struct wasm_byte_vec_t text = {0, NULL};
    if (exited(ending, error))
        return;
    if (trap != NULL) {
        wasm_trap_message(trap, &text);
        // Its own NUL is part of a trap's message.
        text.size -= text.size > 0 && text.data[text.size - 1] == 0;
        trapped(ending, log, &text);
    } else if (error == NULL) {
        set(ending, 0, "completed", "%s", "");
    } else {
        struct wasm_frame_vec_t frames = {0, NULL};
        wasmtime_error_wasm_trace(error, &frames);
        if (!instantiated && frames.size == 0) {
            not_instantiated(ending, "instantiating the module", error);
            return;
        }
        wasmtime_error_message(error, &text);
        trapped(ending, log, &text);
    }
}

// The function `run` of the interface wasi:cli/run. Any 0.2 version has it, and the library finds a
// version that is compatible with the one asked for.
static bool find_run(struct wasmtime_context *context, struct wasmtime_component_instance *instance,
                     struct wasmtime_component_func *function) {
    static char interface[] = "wasi:cli/run@0.2.0", name[] = "run";
    struct wasmtime_component_export_index_t *outer =
        wasmtime_component_get_export_index(code.component, NULL, interface, strlen(interface));
    if (outer == NULL)
        return false;
    struct wasmtime_component_export_index_t *inner =
        wasmtime_component_get_export_index(code.component, outer, name, strlen(name));
    return inner != NULL && wasmtime_component_instance_get_func(instance, context, inner, function);
}

static void run_component(const struct runtime *runtime, struct wasmtime_context *context, struct log *log,
                          struct ending *ending) {
    struct wasmtime_component_instance instance;
    struct wasmtime_component_func run;
    struct wasmtime_component_val result = {.kind = WASMTIME_COMPONENT_RESULT};
    struct wasmtime_error *error =
        wasmtime_component_linker_instantiate(runtime->component_linker, context, code.component, &instance);
    bool instantiated = error == NULL;
    if (instantiated) {
        if (!find_run(context, &instance, &run)) {
            cannot_run(ending, "finding wasi:cli/run, which the component does not export", NULL);
            return;
        }
        error = wasmtime_component_func_call(&run, context, NULL, 0, &result, 1);
    }
    if (error == NULL) {
        bool ok = result.kind == WASMTIME_COMPONENT_RESULT && result.of.result.is_ok;
        set(ending, ok ? 0 : 1, ok ? "completed" : "error", "%s", "");
    } else if (!exited(ending, error)) {
        struct wasm_frame_vec_t frames = {0, NULL};
        wasmtime_error_wasm_trace(error, &frames);
        if (!instantiated && frames.size == 0) {
            not_instantiated(ending, "instantiating the component", error);
            return;
        }
        struct wasm_byte_vec_t text = {0, NULL};
        wasmtime_error_message(error, &text);
        trapped(ending, log, &text);
    }
}

bool wasi_begin(const struct runtime *runtime, const struct spec *spec, struct ending *ending) {
    store = wasmtime_store_new(runtime->engine, NULL, NULL);
    // The limit holds for each memory; modules have one, and components one for each of their modules.
    if (!limits_set(store, spec->memory_limit)) {
        cannot_run(ending, "limiting its memory, which this library does not let us", NULL);
        return false;
    }
    struct wasmtime_error *error = wasmtime_context_set_wasi(wasmtime_store_context(store), *worlds++);
    if (error != NULL)
        cannot_run(ending, "preparing WASI", error);
    return error == NULL;
}

bool wasi_prepare(const struct runtime *runtime, const struct spec *spec, const struct code *kept, char *root,
                  struct log *log, struct ending *ending) {
    const char *step;
    guest_log = log;
    worlds = calloc(spec->runs, sizeof *worlds);
    if (worlds == NULL) {
        cannot_run(ending, "out of memory", NULL);
        return false;
    }
    // Each of them opens its directories itself: later there are no paths.
    for (unsigned i = 0; i < spec->runs; i++) {
        struct wasi_config_t *config = world(spec, root, &step);
        if (config == NULL) {
            cannot_run(ending, step, NULL);
            return false;
        }
        worlds[i] = config;
    }
    return wasi_begin(runtime, spec, ending) && load(runtime, spec, kept, ending);
}

void wasi_run(const struct runtime *runtime, struct log *log, struct ending *ending) {
    struct wasmtime_context *context = wasmtime_store_context(store);
    if (code.component != NULL)
        run_component(runtime, context, log, ending);
    else
        run_module(runtime, context, log, ending);
    // Nothing is freed: mostly the process ends now, and its memory with it.
}

void wasi_leave(void) {
    limits_forget();
    wasmtime_store_delete(store);
}
