"""Talking to the API server: typed objects, a raw client, an informer, an event recorder."""
