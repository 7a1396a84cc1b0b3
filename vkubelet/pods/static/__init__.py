"""Static pods: pods that files name, with or without an API server, and the mirrors that show them there."""
