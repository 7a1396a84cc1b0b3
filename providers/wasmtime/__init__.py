"""The default provider: each container is a process that a small C launcher forks."""
