"""The launcher in C, and how it is built."""
