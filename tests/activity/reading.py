"""Read an execution's updates, as a reader gets them."""

from collections.abc import Sequence
from typing import Any

from lg_streaming.events import StreamUpdate
from lg_streaming.hub import StreamHub
from tests.hub.helpers import collect


async def read(hub: StreamHub, execution_id: str = "e") -> list[StreamUpdate]:
    """All updates of an execution but its start and its end, which comes now."""
    hub.open(execution_id)  # a run without an update has not begun
    await hub.close(execution_id)
    return (await collect(hub.subscribe(execution_id)))[1:-1]


def said(updates: Sequence[StreamUpdate], type: str) -> list[Any]:
    """The data of the updates of a type."""
    return [update.data for update in updates if update.type == type]


def types(updates: Sequence[StreamUpdate]) -> list[str]:
    return [update.type for update in updates]
