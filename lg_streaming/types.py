"""Names of the wire that several layers share."""

from __future__ import annotations

from typing import Literal

__all__ = ["GapReason", "OnGap", "ProtocolName", "TransportName", "WireName"]

GapReason = Literal["evicted", "epoch_changed", "future_position"]
"""Reason for which the server cannot deliver updates that a reader asked for."""

OnGap = Literal["oldest", "tail", "fail"]
"""Position after a gap: the oldest update that is kept, the newest one, or none: reading fails."""

TransportName = Literal["socketio", "websocket", "sse", "rest"]
"""Protocol of the library's own by which a client is connected; `rest` is a single request."""

WireName = Literal["ai-sdk", "langgraph", "ag-ui", "durable-streams"]
"""Protocol of another system's clients."""

ProtocolName = Literal[TransportName, WireName]
"""Protocol by which a client is connected."""
