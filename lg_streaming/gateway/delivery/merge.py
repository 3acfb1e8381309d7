"""Merge updates for a client that lags and asked for it.

Pieces of one message's text are joined, and the newest progress replaces those before it. Nothing else is merged. A
merged update has the position of its last part, and `merged_from` is the number of its first. So a client can resume
after it as after any other update.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from lg_streaming.codec import decode_data
from lg_streaming.gateway.delivery.frames import CHUNK_BYTES
from lg_streaming.log.base import StoredUpdate
from lg_streaming.values import escape_line_separators

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lg_streaming.gateway.delivery.frames import FrameEncoder, Frames

__all__ = ["merge", "merged_frames"]

_TEXT: Final = frozenset({"token", "thinking"})
_MERGEABLE: Final = _TEXT | {"progress"}
_ALIKE: Final = ("role", "message_id", "metadata")
"""Fields of a text's data: a change of one begins a new piece."""
_NOT_ONLY_TEXT: Final = frozenset({"blocks", "json"})
"""Fields of a text's data that repeat the content, or have more than the text."""
_METADATA: Final = b',"metadata":{"timestamp":"'

_Key = tuple[str, str, bytes]


def merge(records: Sequence[StoredUpdate], *, atomic: bool) -> list[StoredUpdate]:
    """Return the records that a lagging client gets in place of `records`.

    Args:
        records: Consecutive updates of one execution that passed the client's filter.
        atomic: Whether the result arrives completely or not. If so, alternating pieces of several messages are joined
            across each other; otherwise only adjacent pieces are joined.

    Guarantees: sequence numbers rise. The joined contents of each message's pieces are the same as before. A client
    may get any number of updates of the result (none or all, when `atomic`) and resume after the last. It then misses
    only progress that a newer one replaces. Every update that is neither text nor `progress` is unchanged, and stays
    after the updates before it.
    """
    return [record for unit in _units(records, atomic=atomic) for record in unit]


def merged_frames(
    execution_id: str, records: Sequence[StoredUpdate], encoder: FrameEncoder, *, atomic: bool
) -> Iterator[Frames]:
    """Yield frames of about 64 KiB of the merged records, see `merge`.

    Each piece may be written by itself, also with `atomic`: the connection may break between two.
    """
    piece: list[StoredUpdate] = []
    size = 0
    for unit in _units(records, atomic=atomic):
        more = sum(len(record.json) for record in unit)
        if piece and size + more > CHUNK_BYTES:
            yield encoder.encode(execution_id, piece)
            piece, size = [], 0
        piece += unit
        size += more
    if piece:
        yield encoder.encode(execution_id, piece)


def _units(records: Sequence[StoredUpdate], *, atomic: bool) -> Iterator[Sequence[StoredUpdate]]:
    """Yield the merged records in groups; a client can resume between any two groups."""
    keys = [_key(record) for record in records]
    replaced = _replaced(records, keys)
    began: dict[_Key, int] = {}
    unit = _Unit(atomic=atomic)
    for record, key in zip(records, keys, strict=True):
        if record.seq in replaced:
            began.setdefault(cast("_Key", key), record.seq)
            continue
        data = _text_data(record) if key is not None and record.type in _TEXT else None
        if data is not None:
            unit.join(record, cast("_Key", key), data)
        elif key is not None and record.type not in _TEXT:
            first = began.pop(key, None)
            unit.add(record if first is None else _merged(record, first, record.json))
        else:
            yield unit.flush()
            yield (record,)
        if unit.size > CHUNK_BYTES:
            yield unit.flush()
    yield unit.flush()


def _key(record: StoredUpdate) -> _Key | None:
    """Return the key that mergeable records share; None for a record that stays as it is."""
    if record.type not in _MERGEABLE:
        return None
    try:
        return record.type, record.priority, record.scope.fragment
    except Exception:  # noqa: BLE001 (the scope's `extra` has values of the application)
        return None


def _replaced(records: Sequence[StoredUpdate], keys: Sequence[_Key | None]) -> set[int]:
    """Return the numbers of progress that a newer one follows, with only text and progress between."""
    newer: set[_Key] = set()
    replaced: set[int] = set()
    for record, key in zip(reversed(records), reversed(keys), strict=True):
        if key is None:
            newer.clear()
        elif record.type not in _TEXT:
            if key in newer:
                replaced.add(record.seq)
            newer.add(key)
    return replaced


def _text_data(record: StoredUpdate) -> dict[str, Any] | None:
    """Return the data of a piece of text; None when it has another shape."""
    data = orjson.loads(record.json)["data"] if record.scope.extra is not None else decode_data(record.json)
    if not isinstance(data, dict):
        return None
    data = cast("dict[str, Any]", data)
    if not isinstance(data.get("content"), str) or not _NOT_ONLY_TEXT.isdisjoint(data):
        return None
    return data


def _merged(last: StoredUpdate, first: int, json: bytes) -> StoredUpdate:
    """Return the records from number `first` to `last` as one: the last, with the content of `json`."""
    return last._replace(json=b'%b,"merged_from":%d}}' % (json[:-2], first), key=None, merged_from=first)


class _Text:
    """Consecutive pieces of one message's text."""

    __slots__ = ("_contents", "_data", "_first", "_index", "_key", "_last", "_tokens")

    def __init__(self, record: StoredUpdate, key: _Key, data: dict[str, Any]) -> None:
        self._key = key
        self._first = self._last = record
        self._index = data.get("index")
        self._data = data
        self._contents: list[str] = [data["content"]]
        self._tokens = _tokens(data)

    def accepts(self, key: _Key, data: dict[str, Any]) -> bool:
        """Return whether a later piece can be joined."""
        mine = self._data
        return key == self._key and all(mine.get(name) == data.get(name) for name in _ALIKE)

    def append(self, record: StoredUpdate, data: dict[str, Any]) -> None:
        self._last = record
        self._data = data
        self._contents.append(data["content"])
        self._tokens += _tokens(data)

    @property
    def seq(self) -> int:
        return self._last.seq

    def joined(self) -> StoredUpdate:
        """Return the pieces as one record; a single piece as it was."""
        last, first = self._last, self._first.seq
        if last is self._first:
            return last
        data = {**self._data, "content": "".join(self._contents), "batch_size": self._tokens}
        data.pop("part", None)
        data.pop("parts", None)
        if self._index is None:
            data.pop("index", None)
        else:
            data["index"] = self._index
        if last.scope.extra is not None:
            whole = orjson.loads(last.json)
            return _merged(last, first, escape_line_separators(orjson.dumps({**whole, "data": data})))
        json = last.json
        begin, end = json.index(b',"data":') + 8, json.rindex(_METADATA)
        return _merged(last, first, b"".join((json[:begin], escape_line_separators(orjson.dumps(data)), json[end:])))


def _message_key(record: StoredUpdate, data: dict[str, Any]) -> object:
    """Return the key by which clients identify a message. Its pieces stay in order even if they cannot be joined."""
    message, scope = data.get("message_id"), record.scope
    if isinstance(message, str):
        return message
    return scope.message_id or (
        scope.run_id,
        scope.node_id,
        scope.namespace,
        scope.agent_type,
        scope.task_id,
        scope.request_id,
        scope.tool_call_id,
    )


def _tokens(data: dict[str, Any]) -> int:
    """Return the number of tokens of a piece; see `batch_size` of `@stream_token`."""
    size = data.get("batch_size", 1)
    return size if isinstance(size, int) else 1


class _Unit:
    """Text and progress that are merged together."""

    def __init__(self, *, atomic: bool) -> None:
        self._atomic = atomic
        self._items: list[_Text | StoredUpdate] = []
        self._open: dict[tuple[str, object], _Text] = {}
        self.size = 0
        """The approximate number of bytes."""

    def join(self, record: StoredUpdate, key: _Key, data: dict[str, Any]) -> None:
        """Add a piece of text; join it to its message's previous piece if possible."""
        message = (record.type, _message_key(record, data))
        text = self._open.get(message)
        if text is not None and text.accepts(key, data):
            text.append(record, data)
            self.size += len(data["content"])
            return
        if not self._atomic:
            self._open.clear()
        self._open[message] = text = _Text(record, key, data)
        self._items.append(text)
        self.size += len(record.json)

    def add(self, record: StoredUpdate) -> None:
        """Add a progress."""
        if not self._atomic:
            self._open.clear()
        self._items.append(record)
        self.size += len(record.json)

    def flush(self) -> list[StoredUpdate]:
        """Return the records in order, and empty the unit."""
        items = [item.joined() if isinstance(item, _Text) else item for item in self._items]
        items.sort(key=_seq)
        self._items, self._open, self.size = [], {}, 0
        return items


def _seq(record: StoredUpdate) -> int:
    return record.seq
