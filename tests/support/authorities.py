"""One TLS context for all clients of httpx2: each would read the authorities of the machine anew, in 30 ms."""

import functools
import os
import ssl

import httpcore2

_default = httpcore2.default_ssl_context


@functools.cache
def _read(trust_env: bool, file: str | None, folder: str | None) -> ssl.SSLContext:
    return _default(_trust_env=trust_env)


def _shared(*, _trust_env: bool = True) -> ssl.SSLContext:
    return _read(_trust_env, os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


def share_authorities() -> None:
    """Let clients that name no authorities share those of the environment."""
    httpcore2.default_ssl_context = _shared
