"""An update becomes JSON bytes once, when it is published.

The bytes are made in two steps, because the sequence number is known only when the log takes the update:
`Codec.encode` makes everything but the end, `seal` adds sequence number and epoch. Nothing a
program can put into an update makes encoding fail: what JSON cannot hold is replaced by the nearest thing
it can, in the end by its ``repr``.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime, time
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from uuid import UUID

import orjson
from pydantic import BaseModel

from lg_streaming.errors import UpdateTooLargeError, describe_error
from lg_streaming.events import NAMES, RESERVED, Scope, StreamMetadata, StreamUpdate, parse_timestamp

if TYPE_CHECKING:
    from lg_streaming.events import Priority

__all__ = ["Codec", "Encoded", "Redact", "decode", "decode_data", "jsonable", "moment_of", "seal", "split", "update_of"]

logger = logging.getLogger(__name__)

Redact = Callable[[str, Any], Any]
"""``redact(type, data) -> data``: what may leave of an update's data. It gets plain JSON values."""

T = TypeVar("T")


class Encoded:
    """Data that is JSON already, and as it may leave: it is neither redacted nor encoded again."""

    __slots__ = ("json",)

    def __init__(self, json: bytes) -> None:
        self.json = json


_MAX_REPR: Final = 1_000
_MAX_DEPTH: Final = 64
_MAX_ITEMS: Final = 50_000
_MAX_NAMES: Final = 1_024


class Codec:
    """Encodes updates.

    Args:
        max_bytes: Largest encoded update, in bytes.
        redact: Called with each update's type and data before it is encoded. When it raises, the data is
            withheld: the update then says only that redaction failed.
    """

    def __init__(self, *, max_bytes: int = 262_144, redact: Redact | None = None) -> None:
        self._max_bytes = max_bytes
        self._redact = redact
        self._second = (-1, b"")
        self._millis = (-1, b"")
        self._names: dict[str, bytes] = {}
        self.fallbacks = 0
        """How many updates held something JSON cannot hold."""

    def encode(
        self,
        execution_id: str,
        type: str,
        data: object,
        *,
        scope: Scope,
        priority: Priority,
        timestamp: float,
    ) -> bytes:
        """Everything of the wire JSON but ``sequence_number``, ``epoch`` and the closing braces.

        Raises:
            UpdateTooLargeError: It is over ``max_bytes``. No other error is raised.
        """
        if isinstance(data, Encoded):
            json = data.json
        else:
            json = self.dumps(data if self._redact is None else self.redacted(type, data))
        names = self._names
        body = b'{"type":%b,"data":%b,"metadata":{"timestamp":"%b","execution_id":%b%b%b' % (
            names.get(type) or self._name(type),
            json,
            self._timestamp(timestamp),
            names.get(execution_id) or self._name(execution_id),
            b"" if priority == "medium" else b',"priority":"%b"' % priority.encode(),
            scope.encoded or self._about(scope),
        )
        if len(body) > self._max_bytes:
            raise UpdateTooLargeError(
                f"an update of type {type!r:.80} has {len(body)} bytes; limits.update_bytes allows {self._max_bytes}",
                execution_id=execution_id,
            )
        return body

    def _about(self, scope: Scope) -> bytes:
        try:
            return scope.fragment
        except Exception:  # noqa: BLE001 (its `extra` holds whatever the user put there)
            self.fallbacks += 1
        extra = jsonable(scope.extra)
        known = {name: jsonable(value) for name in NAMES if (value := getattr(scope, name)) is not None}
        return Scope(**known, extra=cast("dict[str, Any]", extra) if isinstance(extra, dict) else None).fragment

    def dumps(self, value: object) -> bytes:
        """``value`` as JSON. Never raises."""
        try:
            return orjson.dumps(value, default=_default)
        except TypeError:  # orjson's own error is one: odd keys, cycles, huge numbers, half characters
            self.fallbacks += 1
        return orjson.dumps(jsonable(value))

    def ready(self, type: str, data: object) -> Encoded:
        """The data of an update, redacted and encoded: what is the application's own is called now. Never raises."""
        return Encoded(self.dumps(self.redacted(type, data)))

    def redacted(self, type: str, data: object) -> object:
        """What may leave of an update's data: all of it where there is no ``redact``. Never raises."""
        if self._redact is None:
            return data
        try:
            return self._redact(type, orjson.loads(self.dumps(data)))
        except KeyboardInterrupt:
            raise
        except BaseException:
            logger.exception("redact raised on an update of type %r: its data is withheld", type)
            return {"message": "withheld: redaction failed"}

    def _name(self, text: str) -> bytes:
        """A type or an id as JSON; there are few of them, and each update has two."""
        known = self._names.get(text)
        if known is None:
            if len(self._names) >= _MAX_NAMES:
                self._names.clear()
            known = self._names[text] = self.dumps(text)
        return known

    def _timestamp(self, timestamp: float) -> bytes:
        millis = int(timestamp * 1000)
        known, text = self._millis
        if millis == known:
            return text
        known, text = self._second  # one read: another thread may put another second there
        if millis // 1000 != known:
            moment = datetime.fromtimestamp(millis // 1000, UTC)
            text = b"%d-%02d-%02dT%02d:%02d:%02d" % moment.timetuple()[:6]
            self._second = (millis // 1000, text)
        text = b"%b.%03dZ" % (text, millis % 1000)
        self._millis = (millis, text)
        return text


def seal(body: bytes, seq: int, epoch: str) -> bytes:
    """The complete wire JSON of an update that has got its place in the log."""
    return b'%b,"sequence_number":%d,"epoch":"%b"}}' % (body, seq, epoch.encode())


def decode(wire: bytes) -> StreamUpdate:
    """The update that ``wire`` holds. Raises ``ValueError`` or ``KeyError`` when it holds none."""
    return update_of(orjson.loads(wire))


def update_of(update: Mapping[str, Any]) -> StreamUpdate:
    """The update that parsed JSON describes. Raises ``ValueError``, ``KeyError`` or ``TypeError`` when it is none."""
    metadata: dict[str, Any] = update["metadata"]
    return StreamUpdate(
        type=update["type"],
        data=update["data"],
        metadata=StreamMetadata(
            timestamp=parse_timestamp(metadata["timestamp"]),
            sequence_number=metadata["sequence_number"],
            execution_id=metadata["execution_id"],
            epoch=metadata["epoch"],
            scope=_scope_of(metadata),
            priority=metadata.get("priority", "medium"),
            merged_from=metadata.get("merged_from"),
        ),
    )


def decode_data(wire: bytes) -> Any:
    """Only the data of the update that ``wire`` holds, where its scope has no keys of the user's own.

    Inside a JSON text a quote is escaped, so the two marks can only be the update's own members: nothing but
    plain texts stands before the first and after the last of them.
    """
    return orjson.loads(split(wire)[1])


def split(wire: bytes) -> tuple[bytes, bytes, bytes]:
    """Type, data and metadata of an update, each as JSON; for the same scopes as `decode_data`."""
    begin, end = wire.index(b',"data":'), wire.rindex(b',"metadata":{"timestamp":"')
    return wire[8:begin], wire[begin + 8 : end], wire[end + 12 : -1]


def moment_of(timestamp: float) -> datetime:
    """Seconds since 1970 as the wire shows them: whole milliseconds."""
    return datetime.fromtimestamp(int(timestamp * 1000) / 1000, UTC)


def _scope_of(metadata: dict[str, Any]) -> Scope:
    extra = {key: value for key, value in metadata.items() if key not in _NAMED}
    return Scope(**{name: metadata[name] for name in NAMES if name in metadata}, extra=extra or None)


_NAMED: Final = RESERVED.union(NAMES)


def _default(value: object) -> object:
    """What orjson shall encode in place of something it does not know."""
    simpler: object
    match value:
        case BaseModel():
            simpler = value.model_dump(mode="python", warnings=False)
        case set() | frozenset() | tuple():
            simpler = list(cast("Iterable[object]", value))
        case bytes() | bytearray():
            simpler = _text(bytes(value))
        case BaseException():
            simpler = describe_error(value)
        case Mapping():
            simpler = dict(cast("Mapping[object, object]", value))
        case Enum():
            simpler = value.value
        case _ if is_dataclass(value) and not isinstance(value, type):
            simpler = {field.name: getattr(value, field.name) for field in fields(value)}
        case _:
            simpler = _described(value)
    return simpler


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


def _described(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 (a __repr__ may raise anything)
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _MAX_REPR else text[: _MAX_REPR - 1] + "…"


def jsonable(value: object) -> Any:
    """``value`` as plain JSON values, whatever it is: slow, careful, and it never raises.

    In place of what contains itself, is nested too deep or is too much altogether stands ``"…"``.
    """
    return _Plain().of(value, frozenset())


class _Plain:
    """Makes one value plain, and stops when that has become too much work."""

    def __init__(self) -> None:
        self._items = 0

    def of(self, value: object, around: frozenset[int]) -> Any:
        """``value``, which stands inside the containers ``around``."""
        try:
            return self._of(value, around)
        except Exception:  # noqa: BLE001 (any method of a foreign object may raise anything)
            return _clean(f"<{type(value).__name__}>")

    def _of(self, value: object, around: frozenset[int]) -> Any:
        if value is None or isinstance(value, (bool, float)):
            return value
        if isinstance(value, int):
            return _whole_number(value)
        if isinstance(value, str):
            return _clean(value)
        if id(value) in around or len(around) >= _MAX_DEPTH:
            return "…"
        return self._of_container(value, around | {id(value)})

    def _of_container(self, value: object, around: frozenset[int]) -> Any:
        match value:
            case Mapping():
                items = self._affordable(cast("Mapping[object, object]", value).items())
                return {_clean(k if isinstance(k, str) else str(k)): self.of(v, around) for k, v in items}
            case list() | tuple() | set() | frozenset():
                return [self.of(v, around) for v in self._affordable(cast("Iterable[object]", value))]
            case datetime() | date() | time() | UUID():
                return orjson.loads(orjson.dumps(value))
            case _:
                simpler = _default(value)
                return _clean(simpler) if isinstance(simpler, str) else self.of(simpler, around)

    def _affordable(self, items: Iterable[T]) -> Iterable[T]:
        for item in list(items):
            if self._items >= _MAX_ITEMS:
                return
            self._items += 1
            yield item


def _whole_number(value: int) -> int | str:
    if -(2**63) <= value < 2**63:
        return value
    return str(value) if value.bit_length() < _MAX_REPR else "<huge int>"


def _clean(text: str) -> str:
    """``text`` without half characters (lone surrogates), which UTF-8 cannot hold."""
    return text.encode(errors="replace").decode()
