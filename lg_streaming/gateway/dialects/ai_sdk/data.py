"""Sources, files and data parts, made of the data of updates. Any program may publish any data: nothing raises."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from lg_streaming.codec import decode_data
from lg_streaming.gateway.dialects.ai_sdk.chunks import NAME, chunk, event, members, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lg_streaming.log.base import StoredUpdate

__all__ = [
    "artifact_chunks",
    "custom_part",
    "data_of",
    "data_part",
    "error_text",
    "file_chunks",
    "message_texts",
    "source_chunks",
]

_API_KEY: Final = re.compile(r"incorrect api key", re.IGNORECASE)
_LONGEST_ERROR: Final = 2_000
_OTHER_CHARACTERS: Final = re.compile(r"[^A-Za-z0-9_-]+")
_WRAPPERS: Final = ("documents", "artifacts")
_MEDIA_FIELDS: Final = ("mediaType", "media_type", "mime_type", "mimeType")


def data_of(record: StoredUpdate) -> Any:
    """Decode the data of an update."""
    return decode_data(record.json) if record.scope.extra is None else orjson.loads(record.json)["data"]


def error_text(error: object, otherwise: str) -> str:
    """Return an error as a text for people. A provider's message about a wrong key, which quotes it, is left out."""
    message = error if isinstance(error, str) else members(error).get("message")
    if not isinstance(message, str) or not message:
        return otherwise
    return "the model's provider refuses the API key" if _API_KEY.search(message) else message[:_LONGEST_ERROR]


def data_part(name: str, data: Any, *, id: str | None = None, transient: bool = False) -> bytes:
    """Return a data part. ``data`` may be null."""
    content: dict[str, Any] = {"type": f"data-{_OTHER_CHARACTERS.sub('-', name)[:64] or 'custom'}"}
    if id is not None:
        content["id"] = id
    content["data"] = data
    if transient:
        content["transient"] = True
    return event(content)


def custom_part(name: object, data: Any) -> tuple[str, Any, str | None, bool]:
    """Return name, data, id and transience of the part of a program's own event."""
    fields = members(data)
    found = fields.get("id")
    part_id = found if isinstance(found, str) and found else str(found) if type(found) is int else None
    if not isinstance(name, str) or NAME.fullmatch(name) is None:
        return "custom", {"name": name, "data": data}, part_id, fields.get("transient") is True
    return name, data, part_id, fields.get("transient") is True


def _listed(data: object) -> list[Any]:
    """Return `data` if it is a list, else the list that it wraps, else `[data]`."""
    if isinstance(data, list):
        return cast("list[Any]", data)
    for name in _WRAPPERS:
        if isinstance(held := members(data).get(name), list):
            return cast("list[Any]", held)
    return [] if data is None else [data]


def source_chunks(data: object, seq: int) -> Iterator[bytes]:
    """Yield the sources of a `source_documents` update."""
    for number, each in enumerate(_listed(data), 1):
        fields = members(each)
        facts = {**members(fields.get("metadata")), **fields}
        url = next((text for name in ("url", "source", "link") if (text := text_of(facts.get(name)))), None)
        title = text_of(facts.get("title")) or text_of(facts.get("name"))
        source_id = text_of(fields.get("id")) or f"source-{seq}-{number}"
        if url is not None and url.startswith(("http://", "https://")):
            yield chunk("source-url", sourceId=source_id, url=url, title=title)
        else:
            media_type = next((text for name in _MEDIA_FIELDS if (text := text_of(facts.get(name)))), "text/plain")
            shown = title or url or text_of(facts.get("page_content")) or source_id
            yield chunk("source-document", sourceId=source_id, mediaType=media_type, title=shown[:200])


def artifact_chunks(data: object) -> Iterator[bytes]:
    """Yield a file for each artifact that has an address and a media type; else a data part."""
    for each in _listed(data):
        file = _file(members(each))
        part_id = text_of(members(each).get("id"))
        yield file if file is not None else data_part("artifact", each, id=part_id)


def file_chunks(blocks: object) -> Iterator[bytes]:
    """Yield the files among the content blocks of a token."""
    for each in _listed(blocks):
        file = _file(members(each))
        if file is not None:
            yield file


def _file(fields: dict[str, Any]) -> bytes | None:
    media_type = next((text for name in _MEDIA_FIELDS if (text := text_of(fields.get(name)))), None)
    encoded, url = text_of(fields.get("base64")), text_of(fields.get("url"))
    if encoded is not None:
        media_type = media_type or ("image/png" if fields.get("type") == "image" else "application/octet-stream")
        url = f"data:{media_type};base64,{encoded}"
    if url is not None and media_type is None and fields.get("type") == "image":
        media_type = "image/*"
    return None if url is None or media_type is None else chunk("file", url=url, mediaType=media_type)


def message_texts(result: object) -> Iterator[tuple[str, str]]:
    """Yield id and text of the answers that a node wrote itself, without a model; none of a whole history."""
    for each in cast("list[Any]", result) if isinstance(result, list) else [result]:
        fields = members(each)
        messages = members(fields.get("update") or fields).get("messages")
        found = [members(one) for one in cast("list[Any]", messages)] if isinstance(messages, list) else []
        if any(one.get("type") in ("human", "system") for one in found):
            continue
        for one in found:
            message_id, text = text_of(one.get("id")), text_of(one.get("content"))
            is_own = one.get("type") == "ai" and not (one.get("response_metadata") or one.get("usage_metadata"))
            if is_own and message_id is not None and text is not None and not message_id.startswith("lc_run-"):
                yield message_id, text
