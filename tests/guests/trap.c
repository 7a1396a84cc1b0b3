// Traps, two calls deep.
__attribute__((noinline)) static int divide(volatile int a, volatile int b) {
    return a / b;
}

int main(int count, char **arguments) {
    (void)arguments;
    return divide(count, 0);
}
