"""The node agent: a virtual kubelet whose containers are WebAssembly."""
