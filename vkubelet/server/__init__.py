"""The kubelet API: what the API server and the node's monitoring call, over TLS."""
