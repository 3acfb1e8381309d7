"""Paths of an application's gateways, so that two of them do not answer at the same paths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lg_streaming.errors import StreamingConfigError

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["claim_paths"]

_STATE: Final = "lg_streaming_prefixes"
_OPEN_ENDED: Final = ("/executions", "/socket.io")
"""Paths below a prefix that match everything that begins like them."""


def claim_paths(app: Starlette, prefix: str) -> None:
    """Record that `app` has a gateway at `prefix`.

    Raises:
        StreamingConfigError: If a gateway of the app has paths that would overlap.
    """
    claimed: tuple[str, ...] = getattr(app.state, _STATE, ())
    for other in claimed:
        if other == prefix:
            raise StreamingConfigError(
                f"this app has a streaming module at gateway.prefix={prefix!r} already: use that module, or give this "
                "one another prefix, such as GatewaySettings(prefix='/second')"
            )
        if _is_below(prefix, other) or _is_below(other, prefix):
            raise StreamingConfigError(
                f"gateway.prefix={prefix!r} and {other!r} meet: /executions and /socket.io take all paths below them; "
                "choose another prefix"
            )
    setattr(app.state, _STATE, (*claimed, prefix))


def _is_below(prefix: str, other: str) -> bool:
    """Return whether requests to `prefix` would reach an open-ended route of `other`."""
    return any(f"{prefix}/".startswith(f"{other}{path}/") for path in _OPEN_ENDED)
