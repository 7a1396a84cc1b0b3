"""Devices of plugins: who registers, what there is of each resource, and which container has which."""
