"""Updates of an emitter; an emitter inside a node never harms the node."""

from collections.abc import Callable
from typing import Any

import pytest

from lg_streaming.emitter import NO_EMITTER, Emitter, current_emitter
from lg_streaming.errors import HubClosedError, UpdateTooLargeError
from lg_streaming.events import NO_SCOPE, Priority, Scope
from lg_streaming.hub import StreamHub
from lg_streaming.hub.publisher import HubPublisher
from lg_streaming.publisher import Delivery, LargeUpdates, OnMissingRun
from lg_streaming.settings import LimitSettings, StreamingSettings
from tests.hub.helpers import collect


async def written(*calls: Callable[[Emitter], None]) -> list[Any]:
    """The types and data of what ``calls`` wrote."""
    hub = StreamHub()
    emitter = hub.emitter("e")
    for call in calls:
        call(emitter)
    await hub.close("e")
    got = await collect(hub.subscribe("e"))
    await hub.aclose()
    return [(update.type, update.data) for update in got[1:-1]]


@pytest.mark.row("PYEV-02")
async def test_each_way_to_write() -> None:
    assert await written(
        lambda e: e.token("Hel"),
        lambda e: e.token(""),
        lambda e: e.token("lo", role="tool"),
        lambda e: e.thinking("hm"),
        lambda e: e.status("searching", engine="x"),
        lambda e: e.custom("note", [1]),
        lambda e: e.event("my:own", {"a": {1}}),
        lambda e: e.event("log"),
    ) == [
        ("token", {"content": "Hel", "index": 0, "role": "ai"}),
        ("token", {"content": "lo", "index": 1, "role": "tool"}),
        ("thinking", {"content": "hm", "index": 2}),
        ("status", {"status": "searching", "engine": "x"}),
        ("custom", {"name": "note", "data": [1]}),
        ("my:own", {"a": [1]}),
        ("log", None),
    ]


@pytest.mark.parametrize(
    ("current", "total", "percent"),
    [(0, 4, 0.0), (1, 3, 33.3), (4, 4, 100.0), (9, 4, 100.0), (-1, 4, 0.0), (1, 0, 0.0)],
)
async def test_progress_is_a_share_of_the_whole(current: float, total: float, percent: float) -> None:
    (_, data), (_, named) = await written(
        lambda e: e.progress(current, total), lambda e: e.progress(current, total, text="half way")
    )
    assert data == {"progress": percent, "current": current, "total": total, "status": "running"}
    assert named == data | {"text": "half way"}


@pytest.mark.row("FLOW-38")
async def test_an_emitter_says_what_it_is_about() -> None:
    hub = StreamHub()
    emitter = hub.emitter("e", node_id="write", extra={"tenant": 1})
    narrower = emitter.scoped(task_id="t", node_id="plan")
    emitter.token("a")
    narrower.event("note", priority="high")
    assert (emitter.active, emitter.execution_id) == (True, "e")
    await hub.close("e")
    _, first, second, _ = await collect(hub.subscribe("e"))
    assert (first.metadata.node_id, first.metadata.task_id, first.metadata.extra) == ("write", None, {"tenant": 1})
    assert (second.metadata.node_id, second.metadata.task_id, second.metadata.priority) == ("plan", "t", "high")
    assert first.metadata.run_id == second.metadata.run_id == emitter.scope.run_id
    assert (emitter.active, emitter.execution_id) == (False, "e")
    await hub.aclose()


async def test_an_emitter_of_the_program_raises() -> None:
    hub = StreamHub(StreamingSettings(limits=LimitSettings(update_bytes=1_024)))
    emitter = hub.emitter("e")
    with pytest.raises(UpdateTooLargeError):
        emitter.event("note", "x" * 1_000)
    await hub.aclose()
    with pytest.raises(HubClosedError):
        emitter.token("x")


class BrokenPublisher(HubPublisher):
    """Publisher that fails in an unexpected way."""

    def publish(
        self,
        execution_id: str,
        type: str,
        data: object = None,
        *,
        scope: Scope = NO_SCOPE,
        priority: Priority | None = None,
        delivery: Delivery = "at-least-once",
        key: str | None = None,
        missing: OnMissingRun | None = None,
        large: LargeUpdates | None = None,
    ) -> None:
        raise RuntimeError("broken")


async def test_an_emitter_of_a_node_never_raises(caplog: pytest.LogCaptureFixture) -> None:
    hub = StreamHub()
    publisher = BrokenPublisher(hub.runs)
    Emitter(publisher, "e", strict=False).token("a")
    with pytest.raises(RuntimeError):
        Emitter(publisher, "e").token("a")
    await hub.aclose()
    closed = StreamHub()
    await closed.aclose()
    emitter = Emitter(closed.publisher, "e", strict=False)
    emitter.token("a")
    emitter.scoped(node_id="n").progress(1, 2)
    assert ["broken" in str(record.exc_info) for record in caplog.records] == [True, False]
    assert closed.statistics().dropped["closed"] == 2


def test_outside_of_a_node_the_emitter_does_nothing() -> None:
    emitter = current_emitter()
    assert emitter is NO_EMITTER
    assert not emitter.active
    emitter.token("a")
    emitter.progress(1, 2)
    emitter.scoped(node_id="n").custom("note")
