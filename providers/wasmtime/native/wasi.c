#include "wasi.h"

#include "attach.h"
#include "network.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CODE_CANNOT_RUN = 128, CODE_TRAP = 134, CODE_OUT_OF_MEMORY = 137, WASM_PAGE = 64 * 1024 };

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

// Where a guest's standard streams go, once there is a guest.
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

// What the guest sees of the world: arguments, environment, directories, standard files, and the network if
// it may. NULL with the failed step in `step`.
static struct wasi_config_t *world(const struct spec *spec, char *root, const char **step) {
    struct wasi_config_t *config = wasi_config_new();
    *step = "passing arguments (they must be UTF-8)";
    if (!wasi_config_set_argv(config, spec->argument_count, spec->arguments))
        return NULL;
    *step = "passing the environment (it must be UTF-8)";
    if (!wasi_config_set_env(config, spec->variable_count, spec->names, spec->values))
        return NULL;
    static char guest_root[] = "/";
    *step = "opening the container's root directory";
    if (!wasi_config_preopen_dir(config, root, guest_root, true))
        return NULL;
    for (size_t i = 0; i < spec->preopen_count; i++) {
        struct preopen *preopen = &spec->preopens[i];
        static char text[512];
        snprintf(text, sizeof text, "opening %.200s for %.200s", preopen->host, preopen->guest);
        *step = text;
        if (!wasi_config_preopen_dir(config, preopen->host, preopen->guest, preopen->writable))
            return NULL;
    }
    if (guest_log == NULL || spec->input)
        wasi_config_inherit_stdin(config);
    *step = "allowing the network, which this library does not let us";
    if (spec->network && !network_allow(config))
        return NULL;
    wasi_config_inherit_stdout(config);
    wasi_config_inherit_stderr(config);
    return config;
}

// The guest called an exit function, or failed in a way that is none of a trap's.
static bool exited(struct ending *ending, struct wasmtime_error *error) {
    int status = 0;
    if (!wasmtime_error_exit_status(error, &status))
        return false;
    status &= 0xff;
    set(ending, status, status == 0 ? "completed" : "error", "%s", "");
    return true;
}

// Did the guest trap because it was refused memory? The library does not tell that it refused. What can
// be known is that the guest gave up by itself (`unreachable`, what abort() and a failed allocation
// compile to) while not one more page would have been granted. A guest that gives up on a larger
// request, or in a way of its own, or inside a component, whose memories cannot be seen, is a plain trap.
static bool out_of_memory(const struct spec *spec, struct wasmtime_context *context,
                          struct wasmtime_instance *instance, struct wasm_trap_t *trap) {
    uint8_t code = 0;
    struct wasmtime_extern memory;
    static char name[] = "memory";
    if (spec->memory_limit < 0 || !wasmtime_trap_code(trap, &code) || code != WASMTIME_TRAP_UNREACHABLE ||
        !wasmtime_instance_export_get(context, instance, name, strlen(name), &memory) ||
        memory.kind != WASMTIME_EXTERN_MEMORY)
        return false;
    return wasmtime_memory_data_size(context, &memory.of.memory) + WASM_PAGE > (uint64_t)spec->memory_limit;
}

// The library puts the cause after the backtrace, where a message that is cut short would lose it.
static void trapped(struct ending *ending, struct log *log, struct wasm_byte_vec_t *bytes, bool memory) {
    static const char title[] = "\n\nCaused by:\n    ";
    const char *text = (const char *)bytes->data;
    size_t size = bytes->size, trace = size;
    const char *cause = memmem(text, size, title, sizeof title - 1);
    if (cause != NULL) {
        trace = (size_t)(cause - text);
        cause += sizeof title - 1;
    }
    set(ending, memory ? CODE_OUT_OF_MEMORY : CODE_TRAP, memory ? "out-of-memory" : "trap", "%.*s%s%.*s",
        cause == NULL ? 0 : (int)(text + size - cause), cause == NULL ? "" : cause, cause == NULL ? "" : "\n", (int)trace, text);
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

static void run_module(const struct runtime *runtime, const struct spec *spec, struct wasmtime_context *context,
                       struct log *log, struct ending *ending) {
    struct wasmtime_module *module = NULL;
    struct wasmtime_error *error = wasmtime_module_deserialize_file(runtime->engine, spec->code, &module);
    if (error != NULL) {
        cannot_run(ending, "loading the compiled module", error);
        return;
    }
    struct wasmtime_instance instance;
    struct wasmtime_extern start;
    struct wasm_trap_t *trap = NULL;
    static char name[] = "_start";
    error = wasmtime_linker_instantiate(runtime->linker, context, module, &instance, &trap);
    bool instantiated = error == NULL && trap == NULL;
    if (instantiated) {
        if (!wasmtime_instance_export_get(context, &instance, name, strlen(name), &start) ||
            start.kind != WASMTIME_EXTERN_FUNC) {
            cannot_run(ending, "finding _start, which the module does not export", NULL);
            return;
        }
        error = wasmtime_func_call(context, &start.of.func, NULL, 0, NULL, 0, &trap);
    }
    struct wasm_byte_vec_t text = {0, NULL};
    if (trap != NULL) {
        wasm_trap_message(trap, &text);
        // Its own NUL is part of a trap's message.
        text.size -= text.size > 0 && text.data[text.size - 1] == 0;
        trapped(ending, log, &text, instantiated && out_of_memory(spec, context, &instance, trap));
    } else if (error == NULL) {
        set(ending, 0, "completed", "%s", "");
    } else if (!exited(ending, error)) {
        if (!instantiated) {
            cannot_run(ending, "instantiating the module", error);
            return;
        }
        wasmtime_error_message(error, &text);
        trapped(ending, log, &text, false);
    }
}

// The function `run` of the interface wasi:cli/run. Any 0.2 version has it, and the library finds a
// version that is compatible with the one asked for.
static bool find_run(struct wasmtime_component_t *component, struct wasmtime_context *context,
                     struct wasmtime_component_instance *instance, struct wasmtime_component_func *function) {
    static char interface[] = "wasi:cli/run@0.2.0", name[] = "run";
    struct wasmtime_component_export_index_t *outer =
        wasmtime_component_get_export_index(component, NULL, interface, strlen(interface));
    if (outer == NULL)
        return false;
    struct wasmtime_component_export_index_t *inner =
        wasmtime_component_get_export_index(component, outer, name, strlen(name));
    return inner != NULL && wasmtime_component_instance_get_func(instance, context, inner, function);
}

static void run_component(const struct runtime *runtime, const struct spec *spec, struct wasmtime_context *context,
                          struct log *log, struct ending *ending) {
    struct wasmtime_component_t *component = NULL;
    struct wasmtime_error *error = wasmtime_component_deserialize_file(runtime->engine, spec->code, &component);
    if (error != NULL) {
        cannot_run(ending, "loading the compiled component", error);
        return;
    }
    struct wasmtime_component_instance instance;
    struct wasmtime_component_func run;
    struct wasmtime_component_val result = {.kind = WASMTIME_COMPONENT_RESULT};
    error = wasmtime_component_linker_instantiate(runtime->component_linker, context, component, &instance);
    bool instantiated = error == NULL;
    if (instantiated) {
        if (!find_run(component, context, &instance, &run)) {
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
            cannot_run(ending, "instantiating the component", error);
            return;
        }
        struct wasm_byte_vec_t text = {0, NULL};
        wasmtime_error_message(error, &text);
        trapped(ending, log, &text, false);
    }
}

void wasi_run(const struct runtime *runtime, const struct spec *spec, char *root, struct log *log,
              struct ending *ending) {
    const char *step;
    guest_log = log;
    struct wasi_config_t *config = world(spec, root, &step);
    if (config == NULL) {
        cannot_run(ending, step, NULL);
        return;
    }
    struct wasmtime_store *store = wasmtime_store_new(runtime->engine, NULL, NULL);
    // The limit holds for each memory; modules have one, and components one for each of their modules.
    wasmtime_store_limiter(store, spec->memory_limit, -1, -1, -1, -1);
    struct wasmtime_context *context = wasmtime_store_context(store);
    struct wasmtime_error *error = wasmtime_context_set_wasi(context, config);
    if (error != NULL)
        cannot_run(ending, "preparing WASI", error);
    else if (spec->is_component)
        run_component(runtime, spec, context, log, ending);
    else
        run_module(runtime, spec, context, log, ending);
    // Nothing is freed: the process ends now, and its memory with it.
}
