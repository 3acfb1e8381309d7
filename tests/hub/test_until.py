"""Reading that ends before the run: at an interruption, or at a deadline."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lg_streaming.deadline import Deadline
from lg_streaming.errors import BadRequestError
from lg_streaming.filters import UpdateFilter
from lg_streaming.hub import StreamHub
from tests.hub.helpers import collect, soon, types


def asked(hub: StreamHub) -> None:
    hub.open("e")
    hub.publish("e", "token", {"content": "May I?"})
    hub.publish("e", "workflow_interrupted", {"interrupts": [{"id": "i", "value": "Shall I?"}]})


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, ["workflow_start", "token", "workflow_interrupted"]),
        ({"events": ["token"]}, ["token"]),
        ({"node_ids": ["nobody"]}, []),
        ({"filter": UpdateFilter.of(events=["token"])}, ["token"]),
        ({"follow": True}, ["workflow_start", "token", "workflow_interrupted"]),
    ],
    ids=str,
)
async def test_reading_ends_after_an_interruption(hub: StreamHub, wanted: dict[str, Any], expected: list[str]) -> None:
    asked(hub)
    hub.publish("e", "token", {"content": "after it"})
    assert types(await soon(collect(hub.subscribe("e", until="interrupted", **wanted)))) == expected


async def test_who_reads_on_after_an_interruption_gets_what_follows_it(hub: StreamHub) -> None:
    asked(hub)
    first = hub.subscribe("e", until="interrupted")
    await soon(collect(first))
    assert first.at_interruption
    hub.publish("e", "token", {"content": "Yes."})
    hub.publish("e", "workflow_interrupted")
    second = hub.subscribe("e", after=first.position, until="interrupted")
    assert types(await soon(collect(second))) == ["token", "workflow_interrupted"]
    await hub.close("e")
    third = hub.subscribe("e", after=second.position, until="interrupted")
    assert types(await soon(collect(third))) == ["workflow_complete"]
    assert not third.at_interruption


async def test_an_interruption_that_comes_later_ends_who_waits(hub: StreamHub) -> None:
    hub.open("e")
    subscription = hub.subscribe("e", events=["token"], until="interrupted")
    reading = asyncio.create_task(collect(subscription))
    await subscription.start()
    hub.publish("e", "workflow_interrupted")
    assert await soon(reading) == []


async def test_without_being_asked_reading_goes_on(hub: StreamHub) -> None:
    asked(hub)
    await hub.close("e")
    assert types(await soon(collect(hub.subscribe("e"))))[-2:] == ["workflow_interrupted", "workflow_complete"]


async def test_observers_complete_at_an_interruption(hub: StreamHub) -> None:
    asked(hub)
    done, seen = asyncio.Event(), list[str]()
    observed = hub.observe("e", until="interrupted", namespaces=None)
    observed.subscribe(lambda update: seen.append(update.type), on_completed=done.set)
    await soon(done.wait())
    assert seen == ["workflow_start", "token", "workflow_interrupted"]


async def test_a_sink_is_served_to_the_end(hub: StreamHub) -> None:
    hub_of_any: Any = hub
    with pytest.raises(BadRequestError, match="sink"):
        hub_of_any.attach("e", _Nothing(), until="interrupted")


class _Nothing:
    id = "nothing"

    async def send(self, updates: Any) -> None: ...

    async def closed(self, reason: str) -> None: ...

    def is_active(self) -> bool:
        return True


# ---------------------------------------------------------------- deadlines
async def test_reading_that_does_not_end_in_time_is_a_timeout(hub: StreamHub) -> None:
    hub.open("e")
    seen: list[str] = []

    async def read() -> None:
        async for update in hub.subscribe("e", timeout=0.05):
            seen.append(update.type)  # noqa: PERF401 (what came before the error counts)

    with pytest.raises(TimeoutError, match="'e'"):
        await read()
    assert seen == ["workflow_start"]
    assert hub.statistics().subscriptions == 0


async def test_the_time_is_that_of_all_reading_and_not_of_one_wait(hub: StreamHub) -> None:
    hub.open("e")
    stop = asyncio.Event()

    async def publish() -> None:
        while not stop.is_set():
            hub.publish("e", "token")
            await asyncio.sleep(0.01)

    publishing = asyncio.create_task(publish())
    with pytest.raises(TimeoutError):
        await soon(collect(hub.subscribe("e", timeout=0.2)))
    stop.set()
    await publishing


async def test_reading_that_ends_in_time_is_left_alone(hub: StreamHub) -> None:
    hub.open("e")
    await hub.close("e")
    assert types(await soon(collect(hub.subscribe("e", timeout=30)))) == ["workflow_start", "workflow_complete"]


async def test_an_observer_is_told_of_the_timeout(hub: StreamHub) -> None:
    hub.open("e")
    failed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
    hub.observe("e", timeout=0.05).subscribe(on_error=failed.set_result)
    assert isinstance(await soon(failed), TimeoutError)


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf"), True, "5"], ids=repr)
async def test_what_is_no_time_is_refused(hub: StreamHub, wrong: Any) -> None:
    with pytest.raises(BadRequestError, match=r"timeout.*a number of seconds"):
        hub.subscribe("e", timeout=wrong)


async def test_a_timeout_of_somebody_else_stays_theirs() -> None:
    deadline = Deadline(30, "it")
    with pytest.raises(TimeoutError, match="mine"):
        async with deadline:
            raise TimeoutError("mine")
