"""Sinks that several processes attach with one id: one is served."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from lg_streaming.events import StreamUpdate
from lg_streaming.hub import CloseReason, StreamHub, sink_claim
from lg_streaming.sinks import CallbackSink, JsonLinesSink, QueueSink
from tests.hub.helpers import settings_of, until
from tests.support.memory_fleet import Network


class ListSink:
    def __init__(self, id: str = "audit") -> None:
        self.id = id
        self.got: list[Any] = []
        self.reasons: list[CloseReason] = []

    async def send(self, updates: Sequence[StreamUpdate]) -> None:
        self.got += [update.data for update in updates if update.type == "note"]

    async def closed(self, reason: CloseReason) -> None:
        self.reasons.append(reason)

    def is_active(self) -> bool:
        return True


class Pair:
    def __init__(self) -> None:
        self.network = Network()
        self.a = StreamHub(settings_of(), log=self.network.log("a"))
        self.b = StreamHub(settings_of(), log=self.network.log("b"))


@pytest.fixture
async def pair(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Pair]:
    monkeypatch.setattr(sink_claim, "_RETRY", 0.02)
    pair = Pair()
    yield pair
    await pair.a.aclose()
    await pair.b.aclose()


async def test_one_of_two_is_served_and_the_other_takes_over(pair: Pair) -> None:
    first, second = ListSink(), ListSink()
    attached = pair.a.attach("e", first)
    pair.a.publish("e", "note", 1)
    await until(lambda: first.got == [1])
    waiting = pair.b.attach("e", second)
    await asyncio.sleep(0.05)
    assert waiting.waiting
    assert not attached.waiting
    await pair.b.sinks.flush("e")  # it does not wait for a sink that another process serves
    attached.detach()
    await attached.wait()
    await until(lambda: not waiting.waiting)
    pair.a.publish("e", "note", 2)
    await pair.a.close("e")
    await asyncio.wait_for(waiting.wait(), 5)
    assert (first.got, second.got) == ([1], [2])
    assert (first.reasons, second.reasons) == (["detached"], ["completed"])
    assert not pair.network.claims


async def test_a_released_claim_wakes_the_next(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_claim, "_RETRY", 3_600.0)
    first, second = ListSink(), ListSink()
    attached = pair.a.attach("e", first)
    await until(lambda: bool(pair.network.claims))
    waiting = pair.b.attach("e", second)
    await asyncio.sleep(0.05)
    attached.detach()
    await until(lambda: not waiting.waiting)


async def test_the_sink_of_a_dead_process_is_taken_over_from_its_position(pair: Pair) -> None:
    first, second = ListSink(), ListSink()
    pair.a.attach("e", first)
    pair.b.publish("e", "note", 1)
    await until(lambda: first.got == [1] and bool(pair.network.store))
    waiting = pair.b.attach("e", second)
    await asyncio.sleep(0.05)
    assert waiting.waiting
    pair.network.fleets["a"].alive = False
    pair.b.publish("e", "note", 2)
    await until(lambda: second.got == [2])


async def test_a_lost_claim_stops_the_delivery(pair: Pair) -> None:
    sink = ListSink()
    attached = pair.a.attach("e", sink)
    await until(lambda: bool(pair.network.claims))
    [name] = pair.network.claims
    pair.network.fleets["a"].lose(name, "b")
    await asyncio.wait_for(attached.wait(), 5)
    assert sink.reasons == ["replaced"]
    assert pair.network.claims == {name: "b"}
    pair.network.fleets["a"].lose("another", "b")


async def test_a_waiting_sink_ends_with_its_hub(pair: Pair) -> None:
    pair.a.attach("e", ListSink())
    await until(lambda: bool(pair.network.claims))
    sink = ListSink()
    pair.b.attach("e", sink)
    await pair.b.aclose()
    assert sink.reasons == ["hub_closed"]


async def test_a_closed_hub_passes_its_sinks_on(pair: Pair) -> None:
    first, second = ListSink(), ListSink()
    pair.a.attach("e", first)
    pair.b.publish("e", "note", 1)
    await until(lambda: first.got == [1])
    pair.b.attach("e", second)
    await pair.a.aclose()
    pair.b.publish("e", "note", 2)
    await until(lambda: second.got == [2])


async def test_a_stored_position_holds_unless_a_start_is_given(pair: Pair) -> None:
    pair.a.publish("e", "note", 1)
    for after, expected in ((None, [1]), (None, []), ("latest", []), (None, [])):
        sink = ListSink()
        attached = pair.a.attach("e", sink, after=after)
        await until(lambda attached=attached: not attached.waiting)
        await pair.a.sinks.flush("e")
        attached.detach()
        await attached.wait()
        assert sink.got == expected
    state = await pair.a.describe("e")
    assert state is not None
    sink = ListSink()
    attached = pair.a.attach("e", sink, after=f"{state.epoch}:1")
    await until(lambda: sink.got == [1])
    attached.detach()
    await attached.wait()


async def test_a_sink_without_a_claim_is_served_everywhere(pair: Pair) -> None:
    sinks = [ListSink(), ListSink()]
    for hub, sink in zip((pair.a, pair.b), sinks, strict=True):
        hub.attach("e", sink, claim=False)
    pair.a.publish("e", "note", 1)
    await until(lambda: all(sink.got == [1] for sink in sinks))
    assert not pair.network.claims


async def test_sinks_whose_id_is_random_are_not_claimed(tmp_path: Any) -> None:
    def ignore(_: StreamUpdate) -> None:
        pass

    assert not CallbackSink(ignore).claim_by_default
    assert CallbackSink(ignore, id="audit").claim_by_default
    assert JsonLinesSink(tmp_path / "updates.jsonl").claim_by_default
    assert not QueueSink(id="mine").claim_by_default


async def test_a_sink_waits_while_the_fleet_is_away(pair: Pair) -> None:
    pair.network.away = True
    sink = ListSink()
    attached = pair.a.attach("e", sink)
    pair.b.publish("e", "note", 1)
    await asyncio.sleep(0.05)
    assert attached.waiting
    pair.network.away = False
    await until(lambda: sink.got == [1])
