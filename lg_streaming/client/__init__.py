"""Clients of a gateway, for programs in other processes than the graph's.

- `base`: common parts of both clients; `sse`, `socketio`: the clients; `sync`: blocking ones.
- `subscription`: the base of `sse_subscription` and `socketio_subscription`; `request`: its options.
- `run`: the handle of a run that a client started.
- `reconnect`, `outage`: pauses, limits and log of lost connections; `failures`: errors, and which are retried.
- `position_tracker`: duplicates and gaps; `event_stream`: parser of Server-Sent Events.
- `socketio_connection`: one connection of Socket.IO; `rest`: single requests.
- `config`, `events`, `text_options`, `observe`: options, events, selection of text, observables; `extra`: imports.

The clients need the extra `client` and no part of the server: this module imports neither FastAPI nor LangGraph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lg_streaming.client.extra import import_name

if TYPE_CHECKING:
    from lg_streaming.client.base import ClientStatistics, StreamClient
    from lg_streaming.client.config import ClientOptions, Token
    from lg_streaming.client.events import (
        ClientErrorEvent,
        ClientEvent,
        ClientState,
        Connected,
        Connecting,
        Disconnected,
        GapDetected,
        InitialData,
        Message,
        ParseFailed,
        Reconnecting,
        StateChanged,
    )
    from lg_streaming.client.run import ClientRun, StartOptions
    from lg_streaming.client.socketio import SocketIOClient
    from lg_streaming.client.sse import SSEClient
    from lg_streaming.client.subscription import ClientSubscription
    from lg_streaming.client.sync import SyncClient, SyncRun, SyncSubscription
    from lg_streaming.client.text_options import TextOptions
    from lg_streaming.texts import MessageText, TextAssembly

__all__ = [
    "ClientErrorEvent",
    "ClientEvent",
    "ClientOptions",
    "ClientRun",
    "ClientState",
    "ClientStatistics",
    "ClientSubscription",
    "Connected",
    "Connecting",
    "Disconnected",
    "GapDetected",
    "InitialData",
    "Message",
    "MessageText",
    "ParseFailed",
    "Reconnecting",
    "SSEClient",
    "SocketIOClient",
    "StartOptions",
    "StateChanged",
    "StreamClient",
    "SyncClient",
    "SyncRun",
    "SyncSubscription",
    "TextAssembly",
    "TextOptions",
    "Token",
]

# The packages `httpx2` and `socketio` are imported only with the client that needs them.
_MODULES: Final = {
    **dict.fromkeys(("ClientStatistics", "StreamClient"), "base"),
    **dict.fromkeys(("ClientOptions", "Token"), "config"),
    **dict.fromkeys(("ClientRun", "StartOptions"), "run"),
    "SocketIOClient": "socketio",
    "SSEClient": "sse",
    "ClientSubscription": "subscription",
    **dict.fromkeys(("SyncClient", "SyncRun", "SyncSubscription"), "sync"),
    **dict.fromkeys(("MessageText", "TextAssembly", "TextOptions"), "text_options"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_name(name, _MODULES.get(name, "events"))
