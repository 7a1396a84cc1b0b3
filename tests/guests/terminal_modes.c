/* Does to its terminal what each byte of its input says: r raw, c as it was, s tell its size, f ask for the size to
 * be written where there is no memory, q end; names any other byte. */

#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

__attribute__((import_module("vkubelet_terminal"), import_name("set_raw"))) int32_t set_raw(int32_t enable);
__attribute__((import_module("vkubelet_terminal"), import_name("get_size"))) int32_t get_size(uint32_t rows,
                                                                                           uint32_t columns);

int main(void)
{
    uint32_t size[2] = {7, 7};
    uint32_t at = (uint32_t)(uintptr_t)size, end = (uint32_t)__builtin_wasm_memory_size(0) * 65536;
    uint8_t byte;
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("ready\n");
    while (read(0, &byte, 1) == 1 && byte != 'q') {
        if (byte == 'r' || byte == 'c') {
            printf("%c: %d\n", byte, set_raw(byte == 'r'));
        } else if (byte == 's') {
            int32_t result = get_size(at, at + 4);
            printf("size: %d, %u rows, %u columns\n", result, size[0], size[1]);
        } else if (byte == 'f') {
            printf("beyond: %d %d %d %d\n", get_size(at, end), get_size(end - 3, at), get_size(UINT32_MAX, at),
                   get_size(end - 4, at));
        } else if (byte != '\n') {
            printf("byte %d\n", byte);
        }
    }
    return 5;
}
