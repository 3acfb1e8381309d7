"""Serve executions over Socket.IO, WebSocket, Server-Sent Events and plain HTTP.

`gateway.Gateway` installs all routes; `responses` has responses for routes of the application. A folder imports only
from folders below it in this list:

- `dialects`: formats and routes of other systems' clients.
- `watch`: the pages that show runs, and their login.
- `http`: event streams, REST, metrics, the JavaScript client, OpenAPI.
- `transports`: Socket.IO and `/ws`; a `connection` carries messages both ways.
- `session`: rules of one connection: login, messages, subscriptions, rooms, timers.
- `delivery`: pumps pages of subscriptions into frames, on a common tick.
- `auth`: who may connect, read and control.
- `limits`: connections, rates, requests, threads. `protocol`: messages, their models and their schema. `hooks`: private
  parts of the server and of python-socketio.
"""

from __future__ import annotations

from lg_streaming.gateway.auth.policy import Action, Authenticate, Authorize, Grant, Principal, Revoked
from lg_streaming.gateway.gateway import Gateway
from lg_streaming.gateway.http.event_stream import InitialData
from lg_streaming.gateway.protocol.registry import json_schema
from lg_streaming.gateway.responses import ai_sdk_response, sse_response

__all__ = [
    "Action",
    "Authenticate",
    "Authorize",
    "Gateway",
    "Grant",
    "InitialData",
    "Principal",
    "Revoked",
    "ai_sdk_response",
    "json_schema",
    "sse_response",
]
