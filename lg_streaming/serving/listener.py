"""Listening sockets on an address that a user chose."""

from __future__ import annotations

import errno
import os
import socket
from typing import Final

__all__ = ["AddressInUseError", "format_host", "listen"]

DEFAULT_PORT: Final = 8000


class AddressInUseError(Exception):
    """The address cannot be listened on: the port is taken, or the host is not one of this machine's."""


def listen(host: str, port: int | None) -> socket.socket:
    """Return a socket that is bound to an address.

    Args:
        host: A name or address of this machine.
        port: The port; 0 takes any free one. None takes 8000, or any free one when 8000 is taken.

    Raises:
        AddressInUseError: If the address cannot be listened on.
    """
    candidates = [DEFAULT_PORT, 0] if port is None else [port]
    for number in candidates:
        try:
            return socket.create_server((host, number), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or number == candidates[-1]:
                # The error of a name that cannot be resolved is below zero.
                code = error.errno or 0
                reason = os.strerror(code) if code >= 0 else "no host of that name is known"
                raise AddressInUseError(f"cannot listen on {format_host(host)}:{number}: {reason}") from error
    raise AddressInUseError(host)


def format_host(host: str) -> str:
    """Return `host` as an address in a URL needs it: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host
