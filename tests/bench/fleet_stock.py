"""A server of python-socketio with its Redis manager, at the URL in `LG_STREAMING_LOG`: everybody in one room."""

import os

import socketio

from tests.bench.readers import name_of


def make() -> socketio.ASGIApp:
    """Return the app."""
    manager = socketio.AsyncRedisManager(os.environ["LG_STREAMING_LOG"])
    server = socketio.AsyncServer(async_mode="asgi", transports=["websocket"], client_manager=manager)

    async def subscribe(sid: str, _: object) -> bool:
        await server.enter_room(sid, name_of(0))
        return True

    server.on("subscribe_execution", subscribe)
    return socketio.ASGIApp(server)
