"""From the image that a container names to one that is on the node, and that its pod may use."""
