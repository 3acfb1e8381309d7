"""An app for servers in a process of their own: `tests.gateway.live_app:make()`."""

from fastapi import FastAPI

from lg_streaming.gateway import Gateway
from lg_streaming.hub import StreamHub
from lg_streaming.settings import StreamingSettings
from tests.gateway.site import make_app


def make() -> FastAPI:
    hub = StreamHub(StreamingSettings())
    hub.open("exec-1")
    hub.publish("exec-1", "token", {"content": "one"})
    return make_app(hub, Gateway(hub))
