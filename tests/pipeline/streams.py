"""Token streams to feed, and what leaves them."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from lg_streaming import StreamHub, StreamUpdate, current_emitter, stream_token
from lg_streaming.log.base import ReadResult
from lg_streaming.module import StreamingModule
from tests.capture.graphs import Run

Update = dict[str, Any]


def seen(hub: StreamHub, execution_id: str = "e") -> list[StreamUpdate]:
    """Return the present updates of the execution. The log is in memory, so reading does not wait."""
    reading = hub.log.read(execution_id, 0, 100_000)
    with pytest.raises(StopIteration) as done:
        reading.send(None)
    found: ReadResult | None = done.value.value
    return [record.update for record in found.records] if found is not None else []


def texts(hub: StreamHub, execution_id: str = "e", *types: str) -> list[str]:
    """The contents of its token updates, one by one."""
    return [each.data["content"] for each in seen(hub, execution_id) if each.type in (types or ("token",))]


def tokens(hub: StreamHub, execution_id: str = "e") -> list[Update]:
    """The data of its token updates."""
    return [each.data for each in seen(hub, execution_id) if each.type == "token"]


def joined(updates: list[StreamUpdate]) -> dict[tuple[str, str | None], str]:
    """The text of each type and message."""
    found: dict[tuple[str, str | None], str] = defaultdict(str)
    for update in updates:
        if update.type in ("token", "thinking"):
            found[update.type, update.metadata.message_id] += update.data["content"]
    return dict(found)


def feed(streaming: StreamingModule, *words: str, between: Callable[[], object] = lambda: None, **options: Any) -> Run:
    """Return the updates of a node with these options that produces these words."""

    @stream_token(**options)
    def node() -> None:
        for word in words:
            current_emitter().token(word)
            between()

    with streaming.execution("e"):
        node()
    return Run(seen(streaming.hub))
