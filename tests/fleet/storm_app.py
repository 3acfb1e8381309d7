"""A gateway of a fleet, for many clients of one address: `make()` reads the address of the log from the environment."""

from fastapi import FastAPI

from lg_streaming import StreamingModule, StreamingSettings
from lg_streaming.settings import AuthSettings, LimitSettings

__all__ = ["make", "settings"]


def settings(**more: object) -> StreamingSettings:
    """Limits that are counted over all processes, and are not reached by clients of one address."""
    many = 1_000_000
    limits = LimitSettings(
        connections_per_address=many, connections_per_subject=many, connects_per_address=f"{many}/minute"
    )
    return StreamingSettings.model_validate({"auth": AuthSettings(enabled=False), "limits": limits, **more})


def make() -> FastAPI:
    app = FastAPI()
    StreamingModule(settings()).install(app)
    return app
