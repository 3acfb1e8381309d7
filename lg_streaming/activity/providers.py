"""Read the errors and tools of providers' clients by their shape, without an import of any client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, cast

__all__ = ["LLMErrorType", "classify_error", "tool_name"]

LLMErrorType = Literal["rate_limit", "invalid_request", "authentication", "server_error", "network", "timeout"]

_TYPES_BY_STATUS: Final[Mapping[int, LLMErrorType]] = {
    401: "authentication",
    403: "authentication",
    408: "timeout",
    429: "rate_limit",
    504: "timeout",
}


def classify_error(error: BaseException) -> LLMErrorType | None:
    """Classify an exception of a provider's client by its HTTP status, else by its class."""
    response = getattr(error, "response", None)
    for status in (getattr(error, "status_code", None), getattr(response, "status_code", None)):
        if isinstance(status, int):
            if status in _TYPES_BY_STATUS:
                return _TYPES_BY_STATUS[status]
            return "server_error" if status >= 500 else "invalid_request" if status >= 400 else None  # noqa: PLR2004
    if isinstance(error, TimeoutError):
        return "timeout"
    return "network" if isinstance(error, OSError) else None


def tool_name(tool: object) -> str:
    """Return the name of a tool in the shape of any provider: at the top, or under ``function``."""
    if isinstance(tool, Mapping):
        described = cast("Mapping[str, Any]", tool)
        inner = described.get("function")
        name = described.get("name") or (
            cast("Mapping[str, Any]", inner).get("name") if isinstance(inner, Mapping) else None
        )
    else:
        name = tool if isinstance(tool, str) else getattr(tool, "name", None) or getattr(tool, "__name__", None)
    return name if isinstance(name, str) else "tool"
