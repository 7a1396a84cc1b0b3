// What a guest can do with its terminal: the module `vkubelet_terminal`, which WASI has no part for.
//
//     set_raw(enable: i32) -> i32                  1: no line editing, no echo, no signals; 0: as it was
//     get_size(rows: i32, columns: i32) -> i32     writes two u32 where the guest's memory is told
//
// Both are about standard input and return an errno of WASI preview 1: notty if it is no terminal.
#pragma once
#include "library.h"

// Define the module. NULL, or what failed.
const char *terminal_define(struct wasmtime_linker *linker);
