"""Volumes of storage drivers: attached, staged once on the node, published for each pod, and taken back."""
