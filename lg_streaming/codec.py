"""Encode an update as JSON bytes, once, when it is published.

The log assigns the sequence number, so encoding has two steps. `Codec.encode` makes everything but the end,
`add_position` adds sequence number and epoch. No value in an update makes encoding fail: `lg_streaming.values`
replaces each by its nearest JSON value.

`Codec.encode` refuses an update over the limit; `Codec.encode_fitting` splits or shortens it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from lg_streaming.errors import UpdateTooLargeError, describe_without_message
from lg_streaming.events import NAMES, Scope, parse_update
from lg_streaming.excerpt import excerpt
from lg_streaming.shorten import TEXT_FIELDS, VALUE, shorten, shorten_object, split_text
from lg_streaming.sizes import LEAF_TYPES, MAX_SMALL_MEMBERS, MAX_SMALL_TEXT, exceeds, is_small
from lg_streaming.values import (
    STRICT,
    escape_line_separators,
    jsonable,
    orjson_default,
    replace_lone_surrogates,
    to_json,
)

if TYPE_CHECKING:
    from lg_streaming.events import Priority, StreamUpdate

__all__ = [
    "POSITION_BYTES",
    "Codec",
    "Encoded",
    "OrjsonModule",
    "Redact",
    "add_position",
    "decode",
    "decode_data",
    "jsonable",
    "parse_update",
    "split_members",
    "to_datetime",
    "token_text",
]

logger: logging.Logger = logging.getLogger(__name__)

Redact = Callable[[str, Any], Any]
"""Function ``redact(type, data) -> data`` that removes secrets from an update's data. It gets plain JSON values."""

_TOKEN: Final = b'{"type":"token","data":{"content":"'
_TOKEN_TEXT: Final = len(_TOKEN)
_METADATA: Final = b',"metadata":{"timestamp":"'
_BACKSLASH: Final = 0x5C
POSITION_BYTES: Final = 80
"""Most bytes that `add_position` adds to an update."""


class Encoded:
    """Data that is redacted and encoded already.

    Of data that is much too large, ``json`` is an excerpt. ``sizes`` then has the bytes of the whole JSON of each cut
    field. ``text`` is the whole text of an update whose text is split.
    """

    __slots__ = ("json", "sizes", "text")

    def __init__(self, json: bytes, sizes: Mapping[str, int] | None = None, text: str | None = None) -> None:
        self.json: bytes = json
        self.sizes: Mapping[str, int] | None = sizes
        self.text: str | None = text


_MAX_NAMES: Final = 1_024
_PRIORITY: Final = {
    "medium": b"",
    **{each: b',"priority":"%b"' % each.encode() for each in ("low", "high", "critical")},
}
_LEAST_ROOM: Final = 256
"""Bytes that the data of an update may always have, however long its ids are."""


class Codec:
    """Encoder of updates.

    Args:
        max_bytes: Largest encoded update, in bytes.
        reserve: Bytes of these to leave free for later additions; `POSITION_BYTES` for the position.
        redact: Called with each update's type and data before the update is encoded. When it raises, the data is
            replaced by a message that redaction failed.
    """

    def __init__(self, *, max_bytes: int = 262_144, reserve: int = 0, redact: Redact | None = None) -> None:
        self._limit = max_bytes
        self._max_bytes = max_bytes - reserve
        self._redact = redact
        self._second = (-1, b"")
        self._names: dict[str, bytes] = {}
        self.fallbacks: int = 0
        """Number of updates with a value that JSON cannot hold."""

    def encode(  # noqa: C901, PLR0912, PLR0917 (at every update, in one piece)
        self,
        execution_id: str,
        type: str,
        data: object,
        scope: Scope,
        priority: Priority,
        timestamp: float,
    ) -> bytes:
        """Return the wire JSON without ``sequence_number``, ``epoch`` and the closing braces.

        Raises:
            UpdateTooLargeError: If the JSON exceeds ``max_bytes``. No other error is raised.
        """
        sizes: Mapping[str, int] | None = None
        if self._redact is not None and not isinstance(data, Encoded):
            data = self.apply_redact(type, data)
        members: Any = data
        if data.__class__ is dict and len(members) <= MAX_SMALL_MEMBERS:
            for each in members.values():  # inlines `is_small`, for each update
                if each.__class__ is int:
                    continue
                if each.__class__ is not str:
                    if each.__class__ in LEAF_TYPES:
                        continue
                elif len(each) <= MAX_SMALL_TEXT:
                    continue
                data = self._limit_size(type, data)
                break
        else:
            data = self._limit_size(type, data)
        if isinstance(data, Encoded):
            json, sizes = data.json, data.sizes
        else:
            try:  # inlines `to_json`, for each update
                json = orjson.dumps(data, orjson_default, STRICT)
            except TypeError:
                json = self.to_json(data)
            if not json.isascii():
                json = escape_line_separators(json)
        millis = int(timestamp * 1000)
        second, moment = self._second  # one read: another thread may put another second there
        if second != millis // 1000:
            moment = self._format_second(millis // 1000)
        names = self._names
        body = b'{"type":%b,"data":%b,"metadata":{"timestamp":"%b.%03dZ","execution_id":%b%b%b' % (
            names.get(type) or self._encode_name(type),
            json,
            moment,
            millis % 1000,
            names.get(execution_id) or self._encode_name(execution_id),
            _PRIORITY[priority],
            scope.encoded or scope.fragment,
        )
        if len(body) > self._max_bytes or sizes is not None:
            size = len(body) if sizes is None else len(body) - len(json) + max(len(json), sum(sizes.values()))
            raise UpdateTooLargeError(
                f"an update of type {type!r:.80} has {size} bytes; limits.update_bytes allows {self._limit}",
                execution_id=execution_id,
            )
        return body

    def encode_fitting(
        self,
        execution_id: str,
        type: str,
        data: Encoded,
        *,
        scope: Scope,
        priority: Priority,
        timestamp: float,
    ) -> tuple[Scope, list[bytes]]:
        """Encode an update that exceeds ``max_bytes``, in one piece or several that fit. Never raises.

        Text (`token`, `thinking`, `tool_args`) is split; joining the pieces gives the same text. Other data is
        shortened and names the cut fields in ``truncated``. Type, execution and the scope's ids stay unchanged while
        they leave 256 bytes for the data.

        Returns:
            The scope, shortened if needed, and the bodies, in order.
        """
        around = len(self._wrap(execution_id, type, b"", Scope(), priority, timestamp))
        scope = shorten_scope(scope, max(_LEAST_ROOM, self._max_bytes - around - _LEAST_ROOM))
        room = max(_LEAST_ROOM, self._max_bytes - around - len(scope.fragment))
        if len(data.json) <= room and data.sizes is None:
            pieces = [data.json]
        elif type in TEXT_FIELDS:
            pieces = split_text(type, data.json, room, data.text, data.sizes)
        else:
            pieces = [shorten(data.json, room, data.sizes)]
        return scope, [self._wrap(execution_id, type, json, scope, priority, timestamp) for json in pieces]

    def _wrap(  # noqa: PLR0917 (the parts of an update)
        self, execution_id: str, type: str, json: bytes, scope: Scope, priority: Priority, timestamp: float
    ) -> bytes:
        millis = int(timestamp * 1000)
        return b'{"type":%b,"data":%b,"metadata":{"timestamp":"%b.%03dZ","execution_id":%b%b%b' % (
            self._encode_name(type),
            json,
            self._format_second(millis // 1000),
            millis % 1000,
            self._encode_name(execution_id),
            _PRIORITY[priority],
            scope.fragment,
        )

    def to_json(self, value: object) -> bytes:
        """Return ``value`` as JSON. Never raises."""
        try:  # as `values.to_json` does, and counts
            json = orjson.dumps(value, orjson_default, STRICT)
        except TypeError:
            self.fallbacks += 1
            json = orjson.dumps(jsonable(value))
        return json if json.isascii() else escape_line_separators(json)

    def encode_data(self, type: str, data: object) -> Encoded:
        """Return the data of an update, redacted and encoded now: later, its objects may change. Never raises."""
        limited = self._limit_size(type, self.apply_redact(type, data))
        return limited if isinstance(limited, Encoded) else Encoded(self.to_json(limited))

    def _limit_size(self, type: str, data: object) -> object:
        """Return ``data``, or an excerpt of data that is too large."""
        if isinstance(data, Encoded) or is_small(data) or not exceeds(data, self._max_bytes):
            return data
        return self._excerpt(type, data)

    def _excerpt(self, type: str, data: object) -> Encoded:
        """Return as much of ``data`` as a shortened update can have, without encoding the rest."""
        part, sizes = excerpt(data, self._max_bytes, VALUE)
        field = TEXT_FIELDS.get(type)
        text: Any = None
        if field is not None and sizes is not None:
            text = cast("Mapping[str, Any]", data).get(field) if isinstance(data, Mapping) else data
        return Encoded(self.to_json(part), sizes, replace_lone_surrogates(text) if isinstance(text, str) else None)

    def apply_redact(self, type: str, data: object) -> object:
        """Return an update's data without secrets; without ``redact``, the data itself. Never raises."""
        if self._redact is None:
            return data
        try:
            if is_small(data) or not exceeds(data, self._max_bytes):
                plain = orjson.loads(self.to_json(data))
            else:  # text is not copied
                plain = jsonable(data, max_items=sys.maxsize)
            return self._redact(type, plain)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 (it is the application's; its message may hold the data)
            raised = describe_without_message(error)
        logger.error("redact raised on an update of type %r, its data is withheld: %s", type, raised)
        return {"message": "withheld: redaction failed"}

    def _encode_name(self, text: str) -> bytes:
        """Return a type or an id as JSON, from a cache: there are few of them, and each update has two."""
        cached = self._names.get(text)
        if cached is None:
            if len(self._names) >= _MAX_NAMES:
                self._names.clear()
            cached = self._names[text] = b"%b" % self.to_json(text)  # a copy: orjson's own result keeps 4 KB
        return cached

    def _format_second(self, second: int) -> bytes:
        text = b"%d-%02d-%02dT%02d:%02d:%02d" % datetime.fromtimestamp(second, UTC).timetuple()[:6]
        self._second = (second, text)
        return text


def shorten_scope(scope: Scope, room: int) -> Scope:
    """Return ``scope``, shortened if its JSON has more than ``room`` bytes: user-defined keys first."""
    if len(scope.fragment) <= room:
        return scope
    bare = scope.derive(extra=None)
    left = room - len(bare.fragment)
    if left >= _LEAST_ROOM // 4:
        return bare.derive(extra=orjson.loads(shorten(to_json(scope.user_metadata), left)))
    if len(bare.fragment) <= room:
        return bare
    named = orjson.loads(b"{" + bare.fragment[1:] + b"}")
    kept, cut = shorten_object(named, room - _LEAST_ROOM // 4)
    return Scope(**{name: kept[name] for name in NAMES if name in kept}, extra={"truncated": cut} if cut else None)


def add_position(body: bytes, seq: int, epoch: str) -> bytes:
    """Return the complete wire JSON of an update, with its position in the log."""
    return b'%b,"sequence_number":%d,"epoch":"%b"}}' % (body, seq, epoch.encode())


def decode(wire: bytes) -> StreamUpdate:
    """Return the update in ``wire``, or raise ``ValueError`` or ``KeyError`` if it holds none."""
    return parse_update(orjson.loads(wire))


def decode_data(wire: bytes) -> Any:
    """Return only the data of the update in ``wire``, whose scope must have no user-defined keys.

    Quotes inside a JSON text are escaped, and there are only plain texts before the first marker and after the last.
    So both markers are members of the update.
    """
    return orjson.loads(split_members(wire)[1])


def split_members(wire: bytes) -> tuple[bytes, bytes, bytes]:
    """Return type, data and metadata of an update, each as JSON; for the same scopes as `decode_data`."""
    begin, end = wire.index(b',"data":'), wire.rindex(b',"metadata":{"timestamp":"')
    return wire[8:begin], wire[begin + 8 : end], wire[end + 12 : -1]


def token_text(wire: bytes) -> bytes | None:
    """Return the text of a ``token`` update as JSON without its quotes, for an encoder that copies it.

    None if it has to be decoded. That is so if a quote or a last backslash is escaped in it, or if its data has the
    message's id or an object.
    """
    end = wire.find(b'"', _TOKEN_TEXT)
    if not wire.startswith(_TOKEN) or wire[end - 1] == _BACKSLASH:
        return None
    close = wire.find(b"}", end)  # of the data, if that has no object in it
    if not wire.startswith(_METADATA, close + 1) or wire.find(b'"message_id"', end, close) >= 0:
        return None
    return wire[_TOKEN_TEXT:end]


class OrjsonModule:
    """orjson with the interface of the standard library's module, as python-socketio calls it."""

    @staticmethod
    def dumps(value: object, **_: object) -> str:
        """Return JSON as a text."""
        return orjson.dumps(value).decode()

    loads = orjson.loads


def to_datetime(timestamp: float) -> datetime:
    """Return seconds since 1970 as a datetime in whole milliseconds, as the wire has it."""
    return datetime.fromtimestamp(int(timestamp * 1000) / 1000, UTC)
