"""`vkubelet dev`: a real control plane, a registry and a wasm node on this machine, without root."""
