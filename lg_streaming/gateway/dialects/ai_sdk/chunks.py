"""Chunks of a UI message stream, as bytes: one event of one line for each chunk."""

from __future__ import annotations

import re
from typing import Any, Final, cast

import orjson

from lg_streaming.codec import Codec

__all__ = ["DONE", "KEEP_ALIVE", "NAME", "chunk", "clean", "items_of", "members", "text_of"]

Json = dict[str, Any]

_CODEC: Final = Codec()

DONE: Final = b"data: [DONE]\n\n"
"""Last event of a stream. `useChat` skips it, assistant-ui requires it."""
KEEP_ALIVE: Final = b": ping\n\n"
"""Comment, which no client takes for a chunk."""
NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Names that a data part may have."""


def chunk(type: str, **fields: Any) -> bytes:
    """Return a chunk as an event. Fields with None are left out, as no client takes null for an absent text."""
    return event({"type": type, **{name: value for name, value in fields.items() if value is not None}})


def event(content: Json) -> bytes:
    """Return an event with `content` as JSON, without the keys that a client refuses."""
    json = _CODEC.to_json(content)
    if b'"__proto__"' in json or b'"constructor"' in json:
        json = _CODEC.to_json(clean(orjson.loads(json)))
    return b"data: %b\n\n" % json


def clean(value: Any) -> Any:
    """Return a JSON value without the keys at which a client's parser raises.

    These are ``__proto__``, and ``constructor`` of an object that has a ``prototype``.
    """
    if isinstance(value, dict):
        fields = cast("Json", value)
        return {name: clean(each) for name, each in fields.items() if not _is_refused(name, each)}
    return [clean(each) for each in cast("list[Any]", value)] if isinstance(value, list) else value


def _is_refused(name: str, value: Any) -> bool:
    return name == "__proto__" or (name == "constructor" and isinstance(value, dict) and "prototype" in value)


def members(data: object) -> Json:
    """Return `data` if it is an object, else an empty object."""
    return cast("Json", data) if isinstance(data, dict) else {}


def items_of(data: object) -> list[Any]:
    """Return `data` if it is a list, else an empty list."""
    return cast("list[Any]", data) if isinstance(data, list) else []


def text_of(value: object) -> str | None:
    """Return `value` if it is a text that is not empty."""
    return value if isinstance(value, str) and value else None
