"""How a container runs. Knows specs, processes and files; no Kubernetes object and no network."""
