"""Limits have names, and reaching one leaves everything as it was."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from lg_streaming.errors import (
    BadRequestError,
    ExecutionLimitError,
    LimitError,
    StreamingError,
    SubscriberLimitError,
    UpdateTooLargeError,
)
from lg_streaming.hub import StreamHub
from tests.hub.helpers import MakeHub, collect, seqs, take, types, upto

HOSTILE: list[Any] = [
    "", " ", "a b", "a\nb", "a\r\nb", "a\0b", "\x1b[2J", "a\u2028b", "\ud800", "\u200b", "x" * 257, None, 7, b"e", (1,),
]  # fmt: skip

UNUSUAL = ["...", "../../etc/passwd", "*", "**", "e:1", "a,b", "%00", "<script>", '"', "'", "{}", "Ä😀", "x" * 256]


def opening(hub: StreamHub) -> list[Callable[[Any], object]]:
    """All that open an execution."""
    return [
        hub.open,
        hub.runs.join_run,
        hub.runs.begin_run,
        lambda execution_id: hub.emitter(execution_id).token("x"),
        lambda execution_id: hub.emitter(execution_id).workflow_start(),
        partial(hub.emit, type="note"),
        partial(hub.publish, type="token"),
    ]


@pytest.mark.parametrize("execution_id", HOSTILE, ids=ascii)
async def test_what_cannot_name_an_execution_is_refused_everywhere(hub: StreamHub, execution_id: Any) -> None:
    calls: list[Callable[[Any], object]] = [*opening(hub), hub.subscribe]
    for call in calls:
        with pytest.raises(BadRequestError):
            call(execution_id)
    assert hub.statistics().executions == 0
    assert hub.statistics().subscriptions == 0


@pytest.mark.parametrize("execution_id", UNUSUAL, ids=ascii)
async def test_unusual_names_are_only_names(hub: StreamHub, execution_id: str) -> None:
    hub.publish(execution_id, "token", 1)
    await hub.close(execution_id)
    got = await collect(hub.subscribe(execution_id))
    assert {update.metadata.execution_id for update in got} == {execution_id}
    assert seqs(got) == upto(3)
    assert list(await hub.log.executions()) == [execution_id]


@pytest.mark.parametrize("priority", ["urgent", "", 'low"', "\n"])
async def test_an_unknown_priority_is_refused(hub: StreamHub, priority: Any) -> None:
    with pytest.raises(BadRequestError):
        hub.publish("e", "token", 1, priority=priority)


async def test_normal_is_read_as_medium(hub: StreamHub) -> None:
    priority: Any = "normal"
    hub.publish("e", "note", 1, priority=priority)
    got = await take(hub.subscribe("e", types=["note"]), 1)
    assert got[0].metadata.priority == "medium"


@pytest.mark.row("AOS-03")
async def test_no_more_than_max_executions_run(make_hub: MakeHub) -> None:
    hub = make_hub(max_executions=2)
    hub.open("a")
    hub.publish("b", "token")
    for _ in range(2):
        for call in opening(hub):
            with pytest.raises(ExecutionLimitError) as caught:
                call("c")
            assert (caught.value.execution_id, caught.value.details) == ("c", {"limit": 2})
    assert await hub.describe("c") is None
    assert (hub.statistics().running, hub.statistics().executions) == (2, 2)
    hub.publish("a", "token")
    await hub.close("a")
    hub.publish("c", "token")
    with pytest.raises(ExecutionLimitError):
        hub.open("a")
    assert types(await take(hub.subscribe("c"), 2)) == ["workflow_start", "token"]


@pytest.mark.row("AOS-04")
async def test_no_more_than_max_subscribers_read_an_execution(make_hub: MakeHub) -> None:
    hub = make_hub(max_subscribers_per_execution=2)
    first, _ = hub.subscribe("e"), hub.subscribe("e")
    with pytest.raises(SubscriberLimitError) as caught:
        hub.subscribe("e")
    assert (caught.value.execution_id, caught.value.details) == ("e", {"limit": 2})
    hub.subscribe("other")
    hub.observe("e").subscribe(on_error=lambda error: None)
    assert hub.statistics().subscriptions == 3
    first.close()
    first.close()
    hub.subscribe("e")
    with pytest.raises(SubscriberLimitError):
        hub.subscribe("e")


async def test_an_update_that_is_too_large_is_refused_and_counted(make_hub: MakeHub) -> None:
    hub = make_hub(update_bytes=1_024)
    emitter = hub.emitter("e")
    for call in (lambda: emitter.event("note", "x" * 1_000), lambda: hub.publish("e", "note", ["x"] * 500)):
        with pytest.raises(UpdateTooLargeError) as caught:
            call()
        assert caught.value.execution_id == "e"
    emitter.token("fits")
    await hub.close("e")
    assert seqs(await collect(hub.subscribe("e"))) == upto(3)
    assert hub.statistics().dropped_too_large == 2


def test_the_limits_are_errors_of_one_family() -> None:
    assert issubclass(ExecutionLimitError, LimitError)
    assert issubclass(SubscriberLimitError, LimitError)
    assert issubclass(LimitError, StreamingError)
