"""A gateway whose executions are in Redis, at the URL in `LG_STREAMING_LOG`: one process of the benchmark `redis`."""

import os

from starlette.applications import Starlette

from lg_streaming import StreamingModule, StreamingSettings
from lg_streaming.settings import AuthSettings, LimitSettings

LIMITS = LimitSettings(
    connections=None, connections_per_address=100_000, connects_per_address="100000000/minute", frames_per_second=None
)
"""Limits as in production, which the fleet counts in Redis, but which the readers of one address do not reach."""


def fleet_settings(url: str) -> StreamingSettings:
    """Settings of each process."""
    return StreamingSettings(log=url, auth=AuthSettings(enabled=False), limits=LIMITS)


def make() -> Starlette:
    """Return the app."""
    app = Starlette()
    StreamingModule(fleet_settings(os.environ["LG_STREAMING_LOG"])).install(app)
    return app
