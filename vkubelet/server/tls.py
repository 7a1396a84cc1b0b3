"""The server's side of TLS: which protocol, and whose clients are believed.

It exists to keep the few lines that security hangs on in one place. It must not know where certificates
come from; whoever renews one loads it into the same context, and new connections use it.
"""

from __future__ import annotations

import ssl


def harden(context: ssl.SSLContext) -> ssl.SSLContext:
    """Set what the kubelet API asks of any context; returns the same one.

    A client without a certificate gets through the handshake, to be answered 401 as a kubelet does; one
    whose certificate the CA does not vouch for, or which is not for clients, does not. There are no session
    tickets: who comes with one is not verified again. (The sessions that TLS 1.2 itself keeps cannot be
    switched off from Python; they live in this process only, and every request checks the expiry.)
    """
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    return context
