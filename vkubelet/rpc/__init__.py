"""Speaking gRPC to plugins on this machine: storage drivers, device plugins."""
