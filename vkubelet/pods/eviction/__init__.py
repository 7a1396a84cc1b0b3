"""Eviction: ending pods before the node runs out of what it has.

The rules, names and messages are those of pkg/kubelet/eviction.
"""
