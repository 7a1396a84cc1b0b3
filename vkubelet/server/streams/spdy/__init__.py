"""SPDY/3.1's framing: bytes in, events out; commands in, bytes out.

It stands alone: it imports nothing but the standard library and itself, and knows neither sockets nor tasks
nor what the streams carry. The source of its rules is the draft "SPDY Protocol - Draft 3.1"; where the only
peers that still speak it (Go programs of Kubernetes) are laxer than the draft, it is as lax as they are.
"""
