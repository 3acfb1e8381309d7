"""Everything that a caller gets, as plain values that compare equal where two runs of one graph are the same.

Ids, times and addresses differ from run to run. Each id becomes its number in the order of first appearance, so that
two places with one id still have one. LangChain names a message after its run, with ``-0`` at the end if it did not
stream: that is part of the id.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, cast

from langchain_core.messages import BaseMessage
from pydantic import BaseModel

_ID = re.compile(
    r"(?:lc_run--)?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(?:-\d+(?![\w-]))?|\b[0-9a-f]{32}\b"
)
_VOLATILE = re.compile(
    r"\d{4}-\d\d-\d\dT[\d:.]+(?:\+\d\d:\d\d|Z)?"  # a time
    r"|(?<=\d{32})\.0?\.\d+"  # the random part of a channel's version
    r"|0x[0-9a-f]+"  # an address
    r"|elapsed [\d.]+"
)
_TIMES = frozenset({"run_started_at", "ts", "timestamp", "created_at", "node_first_attempt_time"})

Values = dict[str, Any]


@functools.lru_cache(4096)  # most texts come thousands of times
def _varies(text: str) -> bool:
    return bool(_ID.search(text) or _VOLATILE.search(text))


class View:
    """The view of one run.

    Args:
        numbered: True to distinguish ids, and places in a stream. With parallel nodes the order differs from run to
            run. A checkpointer stores messages in the background, with or without their ids.
    """

    def __init__(self, *, numbered: bool = True) -> None:
        self._numbered = numbered
        self._ids: dict[str, str] = {}

    def of(self, value: Any) -> Any:
        """`value` as plain values."""
        found: Any = value
        match value:
            case str() if not isinstance(value, Enum):  # most are
                return self._text(value)
            case Enum():
                return type(value).__name__, value.name
            case int() | float() | bytes() | None:
                return value
            case Mapping():
                return {self._text(str(key)): self._entry(key, each) for key, each in found.items()}
            case list() | tuple():
                items = [self.of(each) for each in found]
                return items if type(found) is list else (type(found).__name__, items)
            case _:
                return self._object(value)

    def _entry(self, key: Any, value: Any) -> Any:
        if key in _TIMES:
            return "<time>"
        return "<place>" if key == "seq" and not self._numbered else self.of(value)

    def _object(self, value: Any) -> Any:
        name = type(value).__name__
        if isinstance(value, BaseException):
            return self._error(value)
        if isinstance(value, BaseModel):
            found = {key: self.of(each) for key, each in value.__dict__.items()}
            hidden = isinstance(value, BaseMessage) and not self._numbered
            return name, {**found, "id": "<id>"} if hidden else found
        if is_dataclass(value) and not isinstance(value, type):
            return name, {each.name: self.of(getattr(value, each.name)) for each in fields(value) if each.repr}
        return f"<{name}>"

    def _error(self, error: BaseException) -> Values:
        parts = cast("tuple[Any, ...]", getattr(error, "exceptions", ()))
        return {
            "type": type(error).__name__,
            "text": self._text(str(error)),
            "args": [] if parts else self.of(list(error.args)),
            "parts": [self.of(each) for each in parts],
            "cause": type(error.__cause__).__name__,
            "context": type(error.__context__).__name__,
            "notes": [self._text(each) for each in getattr(error, "__notes__", [])],
        }

    def _text(self, text: str) -> str:
        if not _varies(text):
            return text
        text = _ID.sub(self._id, text)
        return _VOLATILE.sub("<volatile>", text)

    def _id(self, found: re.Match[str]) -> str:
        if not self._numbered:
            return "<id>"
        return self._ids.setdefault(found[0], f"<id {len(self._ids)}>")


def first_difference(left: Any, right: Any, path: str = "") -> str | None:
    """Return the first difference of two views; None if they are equal."""
    if left == right and type(left) is type(right):
        return None
    if isinstance(left, dict) and isinstance(right, dict):
        return _in_mappings(cast("Values", left), cast("Values", right), path)
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return _in_lists(list(cast("list[Any]", left)), list(cast("list[Any]", right)), path)
    return f"{path}: {left!r:.300} is not {right!r:.300}"


def _in_mappings(left: Values, right: Values, path: str) -> str | None:
    for key in [*left, *(key for key in right if key not in left)]:
        if key not in left or key not in right:
            there, only = ("left", left) if key in left else ("right", right)
            return f"{path}.{key}: only {there}: {only[key]!r:.300}"
        if found := first_difference(left[key], right[key], f"{path}.{key}"):
            return found
    return f"{path}: the order of the keys"


def _in_lists(left: list[Any], right: list[Any], path: str) -> str:
    for index, (one, other) in enumerate(zip(left, right, strict=False)):
        if found := first_difference(one, other, f"{path}[{index}]"):
            return found
    longer, shorter = (left, right) if len(left) > len(right) else (right, left)
    return f"{path}: {len(left)} items and {len(right)}: {longer[len(shorter)]!r:.300}"
