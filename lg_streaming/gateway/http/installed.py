"""Paths of an application's gateways, so that two of them do not answer at the same paths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lg_streaming.errors import StreamingConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.applications import Starlette

__all__ = ["claim_paths", "claim_wire"]

_STATE: Final = "lg_streaming_prefixes"
_WIRES: Final = "lg_streaming_wires"
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


def claim_wire(app: Starlette, name: str, paths: Iterable[str]) -> None:
    """Record that `app` has a wire's routes under `paths`.

    Raises:
        StreamingConfigError: If a wire of the app has one of the paths.
    """
    claimed: dict[str, str] = getattr(app.state, _WIRES, {})
    for path in paths:
        if path in claimed:
            raise StreamingConfigError(
                f"the wires {claimed[path]} and {name} of this app have the same path {path!r}: change one in "
                "settings.wires"
            )
        claimed[path] = name
    setattr(app.state, _WIRES, claimed)


def _is_below(prefix: str, other: str) -> bool:
    """Return whether requests to `prefix` would reach an open-ended route of `other`."""
    return any(f"{prefix}/".startswith(f"{other}{path}/") for path in _OPEN_ENDED)
