"""Streams to and from clients of the kubelet API: SPDY/3.1 and WebSocket under one interface."""
