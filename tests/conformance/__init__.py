"""Kubernetes' own e2e specs for nodes, run against a node of this repository."""
