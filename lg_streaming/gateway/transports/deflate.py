"""Compressed WebSocket messages (permessage-deflate, RFC 7692) that many connections share.

Each message is compressed separately, which RFC 7692 allows a server for any negotiated parameters (section 7.1.1.1).
So a message is compressed once for all its readers, and a connection needs no compressor.
"""

from __future__ import annotations

import logging
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lg_streaming.gateway.delivery.frames import Framing, web_socket_frame
from lg_streaming.gateway.hooks.server import WebSocketTransport

if TYPE_CHECKING:
    from lg_streaming.gateway.hooks.server import ServerTransport
    from lg_streaming.settings import CompressionSettings

__all__ = ["Deflate", "Framer"]

logger: logging.Logger = logging.getLogger(__name__)

_RSV1: Final = 0x40
"""The bit of a frame's first byte that marks a compressed payload."""
_FLUSHED: Final = b"\0\0\xff\xff"
"""The end of a flush, which a message leaves out."""
_MEMORY_LEVEL: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Deflate:
    """Frames for connections that negotiated permessage-deflate."""

    window_bits: int
    """The peer's window, as a power of two: 9 to 15."""
    threshold: int
    """Bytes. A message that is smaller is not compressed, nor one that would not become smaller."""
    level: int
    """1 to 9."""

    def __call__(self, text: bytes) -> bytes:
        """Return one complete, unmasked text frame."""
        if len(text) < self.threshold:
            return web_socket_frame(text)
        compressor = zlib.compressobj(self.level, zlib.DEFLATED, -self.window_bits, _MEMORY_LEVEL)
        payload = (compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(_FLUSHED)
        if len(payload) >= len(text):
            return web_socket_frame(text)
        frame = web_socket_frame(payload)
        return bytes((frame[0] | _RSV1,)) + frame[1:]


class Framer:
    """Framing of the messages of each connection.

    Args:
        settings: Switch, minimum size and level of the compression.
    """

    def __init__(self, settings: CompressionSettings) -> None:
        self._settings = settings
        self._enabled = settings.websocket and settings.level > 0
        self._warned = False

    def framing_of(self, transport: ServerTransport | None) -> Framing:
        """Return the framing for the connection of ``transport``; plain frames if compression was not negotiated.

        An unknown server compresses by itself, by its own configuration.
        """
        if not isinstance(transport, WebSocketTransport):
            return web_socket_frame
        bits = transport.take_over_deflate()
        if not self._enabled:
            return web_socket_frame
        if bits is None:
            self._warn_unless_offered(transport)
            return web_socket_frame
        return Deflate(window_bits=bits, threshold=self._settings.threshold, level=self._settings.level)

    def _warn_unless_offered(self, transport: WebSocketTransport) -> None:
        if not (self._warned or transport.offers_deflate):
            self._warned = True
            logger.warning(
                "gateway.compression.websocket is on, but the server negotiates no compression: "
                "start uvicorn with ws_per_message_deflate=True"
            )
