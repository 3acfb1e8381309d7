"""Paths of an application's gateways and of their wires, so that no two of them answer at the same paths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lg_streaming.errors import StreamingConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.applications import Starlette

__all__ = ["claim_paths"]

_PREFIXES: Final = "lg_streaming_prefixes"
_PATHS: Final = "lg_streaming_paths"
_OWN: Final = "a streaming module's own routes"
_OPEN_ENDED: Final = ("/executions", "/socket.io")
"""Paths below a prefix that match everything that begins like them."""


def claim_paths(
    app: Starlette, prefix: str, own: Iterable[str] = (), wires: Mapping[str, Iterable[str]] | None = None
) -> None:
    """Record the paths of a gateway in `app`; all of them or, after an error, none.

    Args:
        app: The application.
        prefix: The gateway's prefix.
        own: Paths of routes that are no wire's.
        wires: Paths of its wires, by name. A wire answers below them too.

    Raises:
        StreamingConfigError: If they overlap with each other, or with those of another gateway of the app.
    """
    prefixes: tuple[str, ...] = getattr(app.state, _PREFIXES, ())
    for other in prefixes:
        _check_prefixes(prefix, other)
    paths: dict[str, str] = dict(getattr(app.state, _PATHS, {}))
    for path in own:
        _check_path(path, _OWN, {other: owner for other, owner in paths.items() if owner != _OWN})
        paths[path] = _OWN
    for name, given in (wires or {}).items():
        for path in given:
            if path in {"", prefix}:
                raise StreamingConfigError(
                    f"a path of the wire {name} is empty in settings.wires: it would take all paths"
                )
            _check_path(path, f"the wire {name}", paths)
            paths[path] = f"the wire {name}"
    setattr(app.state, _PREFIXES, (*prefixes, prefix))
    setattr(app.state, _PATHS, paths)


def _check_prefixes(prefix: str, other: str) -> None:
    if other == prefix:
        raise StreamingConfigError(
            f"this app has a streaming module at gateway.prefix={prefix!r} already: use that module, or give this "
            "one another prefix, such as GatewaySettings(prefix='/second')"
        )
    if any(_is_below(one, f"{two}{path}") for one, two in ((prefix, other), (other, prefix)) for path in _OPEN_ENDED):
        raise StreamingConfigError(
            f"gateway.prefix={prefix!r} and {other!r} meet: /executions and /socket.io take all paths below them; "
            "choose another prefix"
        )


def _check_path(path: str, owner: str, others: Mapping[str, str]) -> None:
    for other, whose in others.items():
        if _is_below(path, other) or _is_below(other, path):
            raise StreamingConfigError(
                f"the path {path!r} of {owner} and {other!r} of {whose} meet: change one in settings.wires"
            )


def _is_below(path: str, other: str) -> bool:
    """Return whether a path is another one, or below it."""
    return f"{path}/".startswith(f"{other}/")
