"""Updates merged for a reader that lags and asked for it.

Pieces of one message's text are joined, and the newest progress stands for those before it. Nothing else is ever
merged. A merged update stands at the position of its last part and says in `merged_from` where it begins, so
a reader that has it can be resumed after it like after any other update.
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

    from lg_streaming.gateway.delivery.frames import Encode, Frames

__all__ = ["merge", "merged_frames"]

_TEXT: Final = frozenset({"token", "thinking"})
_MERGEABLE: Final = _TEXT | {"progress"}
_ALIKE: Final = ("role", "message_id", "metadata")
"""Fields of a text's data which begin a new piece when they change."""
_NOT_ONLY_TEXT: Final = frozenset({"blocks", "json"})
"""Fields of a text's data that hold the content a second time, or more of it than the text."""
_METADATA: Final = b',"metadata":{"timestamp":"'

_Key = tuple[str, str, bytes]


def merge(records: Sequence[StoredUpdate], *, atomic: bool, told: int = 0) -> list[StoredUpdate]:
    """What a lagging reader is sent in place of `records`.

    Args:
        records: Consecutive updates of one execution, as they passed the reader's filter.
        atomic: Whether all of the answer reaches the reader or nothing of it. Then pieces of several messages that
            come in turn are joined across each other; otherwise only pieces without anything between them are.
        told: Up to this sequence number the reader may have the updates already, so these are left as they are: it
            drops what it has by its number, which it cannot do with a part of a merged one.

    Guarantees: sequence numbers rise; joining the contents of each message's pieces gives what it gave before; a
    reader that has got any number of updates of the answer (none or all, when `atomic`), and then reads on after
    the last of them, has missed nothing but progress which a newer one has replaced or will replace. Every update
    that is neither text nor `progress` comes unchanged, and what was before it stays before it.
    """
    return [record for unit in _units(records, atomic=atomic, told=told) for record in unit]


def merged_frames(
    execution_id: str, records: Sequence[StoredUpdate], encode: Encode, *, atomic: bool, told: int = 0
) -> Iterator[Frames]:
    """`records` merged as by `merge` and wrapped by `encode` in pieces of about 64 KiB.

    Each piece may leave by itself, also when it is `atomic` only as a whole; the connection may break between two.
    """
    piece: list[StoredUpdate] = []
    size = 0
    for unit in _units(records, atomic=atomic, told=told):
        more = sum(len(record.json) for record in unit)
        if piece and size + more > CHUNK_BYTES:
            yield encode.wrap(execution_id, piece)
            piece, size = [], 0
        piece += unit
        size += more
    if piece:
        yield encode.wrap(execution_id, piece)


def _units(records: Sequence[StoredUpdate], *, atomic: bool, told: int) -> Iterator[Sequence[StoredUpdate]]:
    """The merged records in groups; between two of them a reader may always be resumed."""
    keys = [_key(record) if record.seq > told else None for record in records]
    replaced = _replaced(records, keys)
    began: dict[_Key, int] = {}
    unit = _Unit(atomic=atomic)
    for record, key in zip(records, keys, strict=True):
        if record.seq in replaced:
            began.setdefault(cast("_Key", key), record.seq)
            continue
        data = _text_of(record) if key is not None and record.type in _TEXT else None
        if data is not None:
            unit.join(record, cast("_Key", key), data)
        elif key is not None and record.type not in _TEXT:
            first = began.pop(key, None)
            unit.add(record if first is None else _merged(record, first, record.json))
        else:
            yield unit.take()
            yield (record,)
        if unit.size > CHUNK_BYTES:
            yield unit.take()
    yield unit.take()


def _key(record: StoredUpdate) -> _Key | None:
    """What records that may be merged have in common; None for one that stays as it is."""
    if record.type not in _MERGEABLE:
        return None
    try:
        return record.type, record.priority, record.scope.fragment
    except Exception:  # noqa: BLE001 (the scope's `extra` holds whatever the user put there)
        return None


def _replaced(records: Sequence[StoredUpdate], keys: Sequence[_Key | None]) -> set[int]:
    """The numbers of progress that a newer one follows, with nothing but text and progress between."""
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


def _text_of(record: StoredUpdate) -> dict[str, Any] | None:
    """The data of a piece of text; None when it is not of that shape."""
    data = orjson.loads(record.json)["data"] if record.scope.extra is not None else decode_data(record.json)
    if not isinstance(data, dict):
        return None
    data = cast("dict[str, Any]", data)
    if not isinstance(data.get("content"), str) or not _NOT_ONLY_TEXT.isdisjoint(data):
        return None
    return data


def _merged(last: StoredUpdate, first: int, json: bytes) -> StoredUpdate:
    """The records from number `first` to `last` as one in the place of the last, with the content of `json`."""
    return last._replace(json=b'%b,"merged_from":%d}}' % (json[:-2], first), key=None, merged_from=first)


class _Text:
    """Pieces of one message's text."""

    __slots__ = ("_contents", "_data", "_first", "_index", "_key", "_last", "_tokens")

    def __init__(self, record: StoredUpdate, key: _Key, data: dict[str, Any]) -> None:
        self._key = key
        self._first = self._last = record
        self._index = data.get("index")
        self._data = data
        self._contents: list[str] = [data["content"]]
        self._tokens = _tokens(data)

    def fits(self, key: _Key, data: dict[str, Any]) -> bool:
        """Whether a later piece can be joined."""
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

    def sealed(self) -> StoredUpdate:
        """The pieces as one record; a single one as it was."""
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


def _message_of(record: StoredUpdate, data: dict[str, Any]) -> object:
    """What a client may take for one message: such pieces stay in order even where they cannot be joined."""
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
    """How many tokens a piece has; see `batch_size` of `@stream_token`."""
    size = data.get("batch_size", 1)
    return size if isinstance(size, int) else 1


class _Unit:
    """Text and progress on the way to be merged. It leaves as a whole."""

    def __init__(self, *, atomic: bool) -> None:
        self._atomic = atomic
        self._items: list[_Text | StoredUpdate] = []
        self._open: dict[tuple[str, object], _Text] = {}
        self.size = 0
        """About the bytes it will have."""

    def join(self, record: StoredUpdate, key: _Key, data: dict[str, Any]) -> None:
        """Adds a piece of text, to the one before it of its message where it can be."""
        message = (record.type, _message_of(record, data))
        text = self._open.get(message)
        if text is not None and text.fits(key, data):
            text.append(record, data)
            self.size += len(data["content"])
            return
        if not self._atomic:
            self._open.clear()
        self._open[message] = text = _Text(record, key, data)
        self._items.append(text)
        self.size += len(record.json)

    def add(self, record: StoredUpdate) -> None:
        """Adds a progress."""
        if not self._atomic:
            self._open.clear()
        self._items.append(record)
        self.size += len(record.json)

    def take(self) -> list[StoredUpdate]:
        """What is in it, in order; then it is empty."""
        items = [item.sealed() if isinstance(item, _Text) else item for item in self._items]
        items.sort(key=_place)
        self._items, self._open, self.size = [], {}, 0
        return items


def _place(record: StoredUpdate) -> int:
    return record.seq
