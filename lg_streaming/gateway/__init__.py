"""Serve executions over Socket.IO, WebSocket, Server-Sent Events and plain HTTP."""

from __future__ import annotations

from lg_streaming.gateway.auth.policy import Action, Authorize, Grant, Principal, Revoked
from lg_streaming.gateway.gateway import Gateway
from lg_streaming.gateway.http.event_stream import InitialData
from lg_streaming.gateway.http.sse import sse_response
from lg_streaming.gateway.protocol.registry import json_schema

__all__ = [
    "Action",
    "Authorize",
    "Gateway",
    "Grant",
    "InitialData",
    "Principal",
    "Revoked",
    "json_schema",
    "sse_response",
]
