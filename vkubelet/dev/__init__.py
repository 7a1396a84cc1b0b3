"""`vkubelet dev`: a real control plane, a registry and a wasm node on this machine, without root.

It exists for newcomers, who want one command, and for the tests, which want the real thing. It starts and
stops processes and knows the node agent by its command line only.
"""
