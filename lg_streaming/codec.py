"""An update becomes JSON bytes once, when it is published.

The bytes are made in two steps, because the sequence number is known only when the log takes the update:
`Codec.encode` makes everything but the end, `seal` adds sequence number and epoch. Nothing a
program can put into an update makes encoding fail: `lg_streaming.values` has the nearest JSON value of each.

An update over the limit is refused by `Codec.encode`, and fitted into it by `Codec.encode_fitting`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from lg_streaming.errors import UpdateTooLargeError, describe_without_message
from lg_streaming.events import NAMES, RESERVED, Scope, parse_update
from lg_streaming.shorten import TEXT_FIELDS, VALUE, shorten, shorten_object, split_text
from lg_streaming.sizes import LEAF_TYPES, MAX_SMALL_MEMBERS, MAX_SMALL_TEXT, exceeds, excerpt, is_small
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
    "Redact",
    "add_position",
    "decode",
    "decode_data",
    "jsonable",
    "parse_update",
    "split_members",
    "to_datetime",
]

logger: logging.Logger = logging.getLogger(__name__)

Redact = Callable[[str, Any], Any]
"""``redact(type, data) -> data``: what may leave of an update's data. It gets plain JSON values."""

POSITION_BYTES: Final = 80
"""What `seal` adds to an update at most."""


class Encoded:
    """Data that is JSON already, and as it may leave: it is neither redacted nor encoded again.

    Of data that is much too large it has a part only, and in ``sizes`` the bytes of the JSON of each field that is not
    whole. ``text`` is then the whole text of an update whose text is split.
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
"""Bytes that the data of an update may have in any case, however long its ids are."""


class Codec:
    """Encodes updates.

    Args:
        max_bytes: Largest encoded update, in bytes.
        reserve: Bytes of these to leave free for what is added later; `SEAL_BYTES` for the log's part.
        redact: Called with each update's type and data before it is encoded. When it raises, the data is
            withheld: the update then says only that redaction failed.
    """

    def __init__(self, *, max_bytes: int = 262_144, reserve: int = 0, redact: Redact | None = None) -> None:
        self._limit = max_bytes
        self._max_bytes = max_bytes - reserve
        self._redact = redact
        self._second = (-1, b"")
        self._millis = (-1, b"")
        self._names: dict[str, bytes] = {}
        self.fallbacks: int = 0
        """How many updates held something JSON cannot hold."""

    def encode(  # noqa: C901, PLR0912, PLR0917 (at every update, in one piece)
        self,
        execution_id: str,
        type: str,
        data: object,
        scope: Scope,
        priority: Priority,
        timestamp: float,
    ) -> bytes:
        """Everything of the wire JSON but ``sequence_number``, ``epoch`` and the closing braces.

        Raises:
            UpdateTooLargeError: It is over ``max_bytes``. No other error is raised.
        """
        sizes: Mapping[str, int] | None = None
        if self._redact is not None and not isinstance(data, Encoded):
            data = self.redacted(type, data)
        members: Any = data
        if data.__class__ is dict and len(members) <= MAX_SMALL_MEMBERS:
            for each in members.values():  # as `is_small` does, without another call at every update
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
            try:  # as `dumps` does, without another call at every update
                json = orjson.dumps(data, orjson_default, STRICT)
            except TypeError:
                json = self.to_json(data)
            if not json.isascii():
                json = escape_line_separators(json)
        millis = int(timestamp * 1000)
        known, moment = self._millis
        if known != millis:
            moment = self._format_timestamp(timestamp)
        names = self._names
        body = b'{"type":%b,"data":%b,"metadata":{"timestamp":"%b","execution_id":%b%b%b' % (
            names.get(type) or self._encode_name(type),
            json,
            moment,
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
        """Encode an update that is over ``max_bytes``, in one piece or several that fit. Never raises.

        Text (`token`, `thinking`, `tool_args`) is split; joining the pieces gives the same text. Other data is
        shortened and names what was cut in ``truncated``. Type, execution, and the scope's ids stay as they are as
        long as they leave 256 bytes for the data.

        Returns:
            The scope as it leaves, and the bodies, in order.
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
        return b'{"type":%b,"data":%b,"metadata":{"timestamp":"%b","execution_id":%b%b%b' % (
            self._encode_name(type),
            json,
            self._format_timestamp(timestamp),
            self._encode_name(execution_id),
            _PRIORITY[priority],
            scope.fragment,
        )

    def to_json(self, value: object) -> bytes:
        """``value`` as JSON. Never raises."""
        try:  # as `values.dumps` does, without another call at every update
            json = orjson.dumps(value, orjson_default, STRICT)
        except TypeError:
            self.fallbacks += 1
            json = orjson.dumps(jsonable(value))
        return json if json.isascii() else escape_line_separators(json)

    def encode_data(self, type: str, data: object) -> Encoded:
        """The data of an update, redacted and encoded: what is the application's own is called now. Never raises."""
        ready = self._limit_size(type, self.redacted(type, data))
        return ready if isinstance(ready, Encoded) else Encoded(self.to_json(ready))

    def _limit_size(self, type: str, data: object) -> object:
        """Data as it is, or as much of it as is needed when it is too large."""
        if isinstance(data, Encoded) or is_small(data) or not exceeds(data, self._max_bytes):
            return data
        return self._excerpt(type, data)

    def _excerpt(self, type: str, data: object) -> Encoded:
        """As much of data that is too large as a shortened update can have, without encoding the rest."""
        part, sizes = excerpt(data, self._max_bytes, VALUE)
        field = TEXT_FIELDS.get(type)
        text: Any = None
        if field is not None and sizes is not None:
            text = cast("Mapping[str, Any]", data).get(field) if isinstance(data, Mapping) else data
        return Encoded(self.to_json(part), sizes, replace_lone_surrogates(text) if isinstance(text, str) else None)

    def redacted(self, type: str, data: object) -> object:
        """What may leave of an update's data: all of it where there is no ``redact``. Never raises."""
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
        """A type or an id as JSON; there are few of them, and each update has two."""
        known = self._names.get(text)
        if known is None:
            if len(self._names) >= _MAX_NAMES:
                self._names.clear()
            known = self._names[text] = b"%b" % self.to_json(text)  # a copy: what orjson returns keeps 4 KB
        return known

    def _format_timestamp(self, timestamp: float) -> bytes:
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


def shorten_scope(scope: Scope, room: int) -> Scope:
    """Return ``scope``, shortened where its JSON has more than ``room`` bytes: the user's own keys first."""
    if len(scope.fragment) <= room:
        return scope
    own = {str(name): value for name, value in (scope.extra or {}).items() if name not in _NAMED}
    bare = scope.derive(extra=None)
    left = room - len(bare.fragment)
    if left >= _LEAST_ROOM // 4:
        return bare.derive(extra=orjson.loads(shorten(to_json(own), left)))
    if len(bare.fragment) <= room:
        return bare
    named = orjson.loads(b"{" + bare.fragment[1:] + b"}")
    kept, cut = shorten_object(named, room - _LEAST_ROOM // 4)
    return Scope(**{name: kept[name] for name in NAMES if name in kept}, extra={"truncated": cut} if cut else None)


def add_position(body: bytes, seq: int, epoch: str) -> bytes:
    """The complete wire JSON of an update that has got its place in the log."""
    return b'%b,"sequence_number":%d,"epoch":"%b"}}' % (body, seq, epoch.encode())


def decode(wire: bytes) -> StreamUpdate:
    """The update that ``wire`` holds. Raises ``ValueError`` or ``KeyError`` when it holds none."""
    return parse_update(orjson.loads(wire))


def decode_data(wire: bytes) -> Any:
    """Only the data of the update that ``wire`` holds, where its scope has no keys of the user's own.

    Inside a JSON text a quote is escaped, so the two marks can only be the update's own members: nothing but
    plain texts stands before the first and after the last of them.
    """
    return orjson.loads(split_members(wire)[1])


def split_members(wire: bytes) -> tuple[bytes, bytes, bytes]:
    """Type, data and metadata of an update, each as JSON; for the same scopes as `decode_data`."""
    begin, end = wire.index(b',"data":'), wire.rindex(b',"metadata":{"timestamp":"')
    return wire[8:begin], wire[begin + 8 : end], wire[end + 12 : -1]


def to_datetime(timestamp: float) -> datetime:
    """Seconds since 1970 as the wire shows them: whole milliseconds."""
    return datetime.fromtimestamp(int(timestamp * 1000) / 1000, UTC)


_NAMED: Final = RESERVED.union(NAMES)
