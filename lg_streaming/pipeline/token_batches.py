"""Join tokens into updates, and format an update's data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from lg_streaming.codec import jsonable

if TYPE_CHECKING:
    from lg_streaming.events import Scope
    from lg_streaming.settings import TokenFormat

__all__ = ["Piece", "format_batch", "join_pieces"]

Piece = tuple[str, dict[str, Any], "Scope"]
"""A piece of text in the pipeline: type, data and scope."""

_NONE: Final[object] = object()
_MAX_JOINED: Final = 8_192
"""The maximum of joined characters, so that an update stays far below ``limits.update_bytes``."""


def join_pieces(pieces: list[Piece], most: int) -> list[list[Piece]]:
    """Group ``pieces`` into batches of up to ``most`` that can be joined.

    The pieces of one message keep their order. Pieces of other messages between them do not split a batch, so parallel
    models get whole batches too.
    """
    made: list[list[Piece]] = []
    growing: dict[int, tuple[list[Piece], int]] = {}
    scope: Scope | None = None
    batch: list[Piece] = []
    length = 0
    kind_of_batch = ""
    first: dict[str, Any] = {}
    metadata = role = _NONE  # of the batch's first piece; a piece that joins it has the same
    for piece in pieces:
        kind, data, piece_scope = piece
        if piece_scope is not scope:  # of one message: its scope is one object
            if scope is not None:
                growing[id(scope)] = (batch, length)
            scope = piece_scope
            batch, length = growing.get(id(scope), ([], 0))
            if batch:
                kind_of_batch, first, _ = batch[0]
                metadata, role = _common(first)
            else:
                kind_of_batch = ""
        if kind == "tool_args":
            size = _size(data.get("args"))
            fits = kind_of_batch == kind and _same_call(first, data)
        else:
            size = len(data["content"])
            fits = (
                kind_of_batch == kind
                and data.get("metadata") is metadata
                and data.get("role") == role
                and "blocks" not in data
            )
        length += size
        if fits and length <= _MAX_JOINED and len(batch) < most:
            batch.append(piece)
        else:
            batch, length = [piece], size
            kind_of_batch, first = kind, data
            metadata, role = _common(first)
            made.append(batch)
    return made


def _common(first: dict[str, Any]) -> tuple[object, object]:
    """Return the metadata and the role that a piece of text needs to be joined to ``first``."""
    return (_NONE, _NONE) if "blocks" in first else (first.get("metadata"), first.get("role"))


def _args(piece: Piece) -> str:
    return piece[1].get("args", "")


def _size(text: object) -> int:
    return len(text) if isinstance(text, str) else 0


def _same_call(first: dict[str, Any], data: dict[str, Any]) -> bool:
    return (
        first.get("index") == data.get("index")
        and "tool" not in data
        and data.get("tool_call_id") in (None, first.get("tool_call_id"))
        and isinstance(data.get("args", ""), str)
        and isinstance(first.get("args", ""), str)
    )


def format_batch(batch: list[Piece], format: TokenFormat, *, include_metadata: bool) -> dict[str, Any]:
    """Return the data of a batch's update: the first piece's data, with the text of all pieces."""
    kind, first, scope = batch[0]
    data = {key: value for key, value in first.items() if key != "metadata"}
    field = "args" if kind == "tool_args" else "content"
    if len(batch) > 1:
        texts = [piece[1]["content"] for piece in batch] if field == "content" else [_args(piece) for piece in batch]
        data[field] = "".join(texts)
        data["batch_size"] = len(batch)
    metadata = first.get("metadata") if include_metadata else None
    if metadata:
        data["metadata"] = metadata
    if format == "text" or kind == "tool_args":
        return data
    token = dict(data)
    index = batch[-1][1].get("index")
    if index is not None:
        token["total_tokens"] = index + 1
    if scope.message_id is not None:
        token["message_id"] = scope.message_id
    if format == "json":
        data["json"] = orjson.dumps(jsonable(token)).decode()
        return data
    return token
