"""Import the application that ``module:app`` names."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

__all__ = ["TargetError", "load_app"]


class TargetError(Exception):
    """The target names no application; the message names the reason."""


def load_app(target: str, *, factory: bool = False) -> ASGIApp:
    """Return the ASGI application at `target`, such as `shop.web:app`. The working directory is on the search path.

    Args:
        target: `module:attribute`; the attribute may have dots.
        factory: Whether the attribute is a function without arguments that returns the application.

    Raises:
        TargetError: If `target` does not name an application. Errors of the module itself are passed on.
    """
    module_name, colon, path = target.partition(":")
    if not (colon and module_name and path):
        raise TargetError(f"{target!r} does not name an application: write it as module:app")
    found: Any = _import_module(module_name)
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise TargetError(f"{target!r}: the module {module_name!r} has no {path!r}") from None
    if factory:
        if not callable(found):
            raise TargetError(f"{target!r} is of type {type(found).__name__!r}, so it makes no application")
        found = found()
        target = f"{target}()"
    _check_is_application(found, target)
    return found


def _import_module(name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # If an existing module cannot import another one, the traceback is useful.
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise TargetError(f"there is no module {name!r} in {here} or on Python's path") from None


def _check_is_application(found: Any, target: str) -> None:
    if not callable(found):
        raise TargetError(f"{target!r} is of type {type(found).__name__!r}, which is no ASGI application")
    try:
        inspect.signature(found).bind("scope", "receive", "send")
    except TypeError:
        raise TargetError(
            f"{target!r} does not take (scope, receive, send) as an ASGI application does; "
            "if it makes the application, add --factory"
        ) from None
    except ValueError:
        pass  # an object in C, without a signature
