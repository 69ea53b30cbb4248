"""TLS for the server's side, and certificates asked of clients."""

from __future__ import annotations

import ssl
from functools import partial
from pathlib import Path

from celery_observe.errors import ExpositionError
from celery_observe.exposition.watched import Watched


def server_context(cert: Path | None, key: Path | None, client_ca: Path | None) -> Watched[ssl.SSLContext] | None:
    """Return the context for new connections, made anew when a file changes; None when no TLS is asked for.

    Raises ExpositionError when a file cannot be used, or when `key` or `client_ca` is given without `cert`:
    to serve in the clear what was meant to be protected would be worse than not to serve.
    """
    if cert is None:
        if key or client_ca:
            message = f"{key or client_ca} is given without a certificate: set --tls-cert-file too"
            raise ExpositionError(message)
        return None
    return Watched([file for file in (cert, key, client_ca) if file], partial(_context, cert, key, client_ca))


def _context(cert: Path, key: Path | None, client_ca: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # An encrypted key is an error to report, not a password to ask for at the terminal.
        context.load_cert_chain(cert, key, password="")
        if client_ca:
            context.load_verify_locations(client_ca)
            # Optional in the handshake, because probes come without one: the endpoints demand it.
            context.verify_mode = ssl.CERT_OPTIONAL
    except OSError as error:
        files = ", ".join(str(file) for file in (cert, key, client_ca) if file)
        reason = error.strerror or error
        message = f"cannot use the TLS files {files}: {reason}; they must be readable, PEM, and match"
        raise ExpositionError(message) from None
    return context
