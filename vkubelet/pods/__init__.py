"""Being a kubelet: what a pod spec means, decided in pure functions and acted on by workers."""
