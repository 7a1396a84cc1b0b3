"""Storage drivers on this node: found by their sockets, known to the cluster, asked for volumes."""
