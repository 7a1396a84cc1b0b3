"""Startup, readiness and liveness probes: when one is due, how it is made, and what its results come to."""
