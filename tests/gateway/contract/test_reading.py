"""Readers get the same over every transport: all updates, in order, once, or a gap that names missing ones."""

import asyncio
import itertools
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.gateway.contract.adapters import (
    PATIENCE,
    Item,
    Reader,
    Readers,
    RefusedError,
    first,
    numbers,
    position,
    take,
    until_over,
    updates_in,
)
from tests.gateway.site import Site, site

_names = (f"run-{number}" for number in itertools.count())


@pytest.fixture
def name() -> str:
    """Return the id of an unused execution."""
    return next(_names)


async def run(place: Site, execution_id: str, tokens: int, *, delay: float = 0.0) -> None:
    """A run of so many tokens; its updates are numbered 1 to tokens + 2."""
    place.hub.open(execution_id)
    for index in range(tokens):
        place.tokens(execution_id, 1, start=index)
        if delay:
            await asyncio.sleep(delay)
    await place.hub.close(execution_id)


async def read(reader: Reader) -> list[Any]:
    return updates_in(await until_over(reader))


def upto(last: int, start: int = 1) -> list[int]:
    return list(range(start, last + 1))


@pytest.mark.parametrize("batch", [False, True])
async def test_a_live_run_from_start_to_end(shared_site: Site, readers: Readers, name: str, batch: bool) -> None:
    reader = readers(shared_site.server)
    answer = await reader.subscribe(name, batch=batch)
    assert (answer["state"], answer["position"], answer["oldest"], answer["recovered"]) == ("unknown", None, None, True)
    producing = asyncio.create_task(run(shared_site, name, 100, delay=0.001))
    items = await until_over(reader)
    await producing
    updates = updates_in(items)
    assert numbers(updates) == upto(102)
    assert (items[-1].what, items[-1].name) == ("end", "ended")
    assert [update["data"] for update in updates[1:-1]] == [{"content": f"t{i} ", "index": i} for i in range(100)]
    assert {update["metadata"]["execution_id"] for update in updates} == {name}
    assert bool([item for item in items if item.what == "batch"]) is (batch or reader.always_batches)


@pytest.mark.row("FLOW-D9")
async def test_a_late_reader_gets_the_whole_run(shared_site: Site, readers: Readers, name: str) -> None:
    await run(shared_site, name, 1_500)
    reader = readers(shared_site.server)
    answer = await reader.subscribe(name, batch=True)
    assert (answer["state"], answer["oldest"], answer["recovered"]) == ("completed", 1, True)
    updates = await read(reader)
    assert numbers(updates) == upto(1_502)
    assert answer["position"] == position(updates[-1])


@pytest.mark.row("CFLOW-D2")
async def test_from_any_position_exactly_what_follows(shared_site: Site, readers: Readers, name: str) -> None:
    await run(shared_site, name, 40)
    state = await shared_site.hub.describe(name)
    assert state is not None
    chosen = {0, 1, 2, 41, *random.Random(readers.transport).sample(range(3, 41), 6)}
    for after in sorted(chosen):
        reader = readers(shared_site.server)
        answer = await reader.subscribe(name, after=f"{state.epoch}:{after}")
        assert answer["recovered"]
        assert numbers(await read(reader)) == upto(42, after + 1)


async def test_at_the_head_of_an_ended_run_there_is_nothing(shared_site: Site, readers: Readers, name: str) -> None:
    await run(shared_site, name, 3)
    state = await shared_site.hub.describe(name)
    assert state is not None
    reader = readers(shared_site.server)
    answer = await reader.subscribe(name, after=f"{state.epoch}:{state.head}")
    assert answer["ok"]
    if not answer.get("past_end"):
        assert [item.what for item in await until_over(reader)] == ["end"]


async def test_from_now_on(shared_site: Site, readers: Readers, name: str) -> None:
    shared_site.tokens(name, 10)
    reader = readers(shared_site.server)
    await reader.subscribe(name, after="latest")
    shared_site.tokens(name, 3, start=10)
    await shared_site.hub.close(name)
    assert numbers(await read(reader)) == [12, 13, 14, 15]


async def test_a_follower_reads_two_runs(shared_site: Site, readers: Readers, name: str) -> None:
    reader = readers(shared_site.server)
    await reader.subscribe(name, follow=True)
    await run(shared_site, name, 5)
    first_run = await take(reader, 7)
    await run(shared_site, name, 5)
    assert numbers(first_run + await take(reader, 7)) == upto(14)


FILTERS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a kind": ({"events": ["progress"]}, ["progress", "milestone"]),
    "a type": ({"events": ["milestone"]}, ["milestone"]),
    "a glob": ({"events": ["task:*"]}, ["task:started", "task:done"]),
    "several": ({"events": ["milestone", "task:done"]}, ["milestone", "task:done"]),
    "a node": ({"node_ids": ["write", "nobody"]}, ["token"]),
    "an agent": ({"agent_types": ["writer"]}, ["thinking"]),
    "a category": ({"categories": ["billing"]}, ["note"]),
    "two conditions": ({"categories": ["billing"], "events": ["token"]}, []),
    "a priority": ({"min_priority": "critical"}, ["alarm"]),
    "nothing fits": ({"events": ["nothing:*"]}, []),
    "a time": ({"since": "1999-01-01T00:00:00Z", "until": "1999-12-31T00:00:00+01:00"}, []),
}


@pytest.mark.row("CFLOW-09", "CFLOW-D1")
@pytest.mark.parametrize(("wanted", "types"), FILTERS.values(), ids=FILTERS.keys())
async def test_filters(
    shared_site: Site, readers: Readers, name: str, wanted: dict[str, Any], types: list[str]
) -> None:
    hub = shared_site.hub
    hub.emitter(name, node_id="write").token("a")
    hub.emitter(name, agent_type="writer").event("thinking", {"content": "b"})
    hub.emitter(name, category="billing").event("note", {})
    for each in ("progress", "milestone", "task:started", "task:done"):
        hub.publish(name, each, {"progress": 1})
    hub.publish(name, "alarm", priority="critical")
    await hub.close(name)
    reader = readers(shared_site.server)
    await reader.subscribe(name, **wanted)
    assert [update["type"] for update in await read(reader)] == types


async def test_since_and_until_are_inclusive(readers: Readers) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    with site() as place:
        place.hub.open("e")
        place.tokens("e", 1)
        await place.hub.close("e")
        everything = readers(place.server)
        await everything.subscribe("e")
        token = (await read(everything))[1]
        for option, shift, expected in (("since", 0, 1), ("until", 0, 1), ("since", 1, 0), ("until", -1, 0)):
            moment = datetime.fromisoformat(token["metadata"]["timestamp"]) + timedelta(seconds=shift)
            reader = readers(place.server)
            await reader.subscribe("e", events=["token"], **{option: moment.isoformat().replace("+00:00", "Z")})
            assert len(await read(reader)) == expected


# ---------------------------------------------------------------- gaps
async def test_evicted_updates_are_a_gap_and_reading_goes_on_as_wished(readers: Readers) -> None:
    with site(retention={"max_updates": 20}) as place:
        await run(place, "e", 100)
        state = await place.hub.describe("e")
        assert state is not None
        after = f"{state.epoch}:10"
        gap = {"execution_id": "e", "from": 11, "to": 82, "reason": "evicted"}

        oldest = readers(place.server)
        answer = await oldest.subscribe("e", after=after)
        assert (answer["recovered"], answer["reason"], answer["oldest"]) == (False, "evicted", 83)
        items = await until_over(oldest)
        assert items[0] == Item("gap", "gap", gap)
        assert numbers(updates_in(items)) == upto(102, 83)

        tail = readers(place.server)
        assert not (await tail.subscribe("e", after=after, on_gap="tail"))["recovered"]
        assert (await first(tail, "gap")).payload == {**gap, "to": 102}

        failing = readers(place.server)
        if failing.gap_code is None:
            assert not (await failing.subscribe("e", after=after, on_gap="fail"))["recovered"]
            assert await until_over(failing) == [Item("gap", "gap", gap), Item("closed", "")]
        else:
            assert await code_of(failing, "e", after=after, on_gap="fail") == failing.gap_code


async def code_of(reader: Reader, execution_id: str, **options: Any) -> int:
    """The code of the refusal, or of the error that ended what was begun."""
    try:
        await reader.subscribe(execution_id, **options)
    except RefusedError as refused:
        return refused.code
    return (await first(reader, "error")).payload["code"]


@pytest.mark.parametrize("case", [("other:5", "epoch_changed", 1), ("{epoch}:900", "future_position", 43)])
async def test_a_position_that_does_not_fit_is_a_gap(
    shared_site: Site, readers: Readers, name: str, case: tuple[str, str, int]
) -> None:
    after, reason, start = case
    await run(shared_site, name, 40)
    state = await shared_site.hub.describe(name)
    assert state is not None
    reader = readers(shared_site.server)
    answer = await reader.subscribe(name, after=after.format(epoch=state.epoch))
    assert (answer["recovered"], answer["reason"]) == (False, reason)
    items = await until_over(reader)
    assert (items[0].what, items[0].payload["reason"]) == ("gap", reason)
    assert numbers(updates_in(items)) == upto(42, start)


async def test_a_log_that_lost_its_data_is_noticed_in_mid_stream(
    shared_site: Site, readers: Readers, name: str
) -> None:
    shared_site.tokens(name, 5)
    reader = readers(shared_site.server)
    await reader.subscribe(name, follow=True)
    before = await take(reader, 6)
    await shared_site.hub.log.drop(name)
    shared_site.tokens(name, 2)
    gap = await first(reader, "gap")
    assert (gap.payload["from"], gap.payload["reason"]) == (7, "epoch_changed")
    after = await take(reader, 2)
    assert numbers(after)[0] == 1
    assert after[0]["metadata"]["epoch"] != before[0]["metadata"]["epoch"]


@pytest.mark.parametrize("after", ["17", "x:y", "abc:-1", "abc:1.5", ":", "latest!", "a:b:c"])
async def test_a_position_that_is_none(shared_site: Site, readers: Readers, name: str, after: str) -> None:
    with pytest.raises(RefusedError) as refused:
        await readers(shared_site.server).subscribe(name, after=after)
    assert (refused.value.code, refused.value.error["name"]) == (4001, "bad_position")
    assert refused.value.status in {None, 400}


# ---------------------------------------------------------------- going away
@pytest.mark.row("FLOW-16")
async def test_a_reader_that_leaves_is_forgotten(shared_site: Site, readers: Readers, name: str) -> None:
    shared_site.hub.open(name)
    kept = readers(shared_site.server)
    await kept.subscribe(name)
    for leave in ("aclose", "cut"):
        reader = readers(shared_site.server)
        await reader.subscribe(name)
        await take(reader, 1)
        if leave == "cut":
            reader.cut()
        else:
            await reader.aclose()
    async with asyncio.timeout(PATIENCE):
        while shared_site.hub.statistics().subscriptions > 1:
            await asyncio.sleep(0.01)
    await shared_site.hub.close(name)
    assert numbers(await read(kept)) == [1, 2]


@pytest.mark.row("CFLOW-05")
async def test_a_server_that_stops_says_so_and_when_to_come_back(lasting: Readers) -> None:
    with site() as place:
        place.tokens("e", 1)
        reader = lasting(place.server)
        await reader.subscribe("e")
        await take(reader, 2)
        stopping = asyncio.create_task(asyncio.to_thread(place.server.stop))
        told = (await first(reader, "other", "server_restart")).payload
        assert 500 <= told["retry_ms"] <= 3_000
        assert (await reader.next()).what == "closed"
        assert reader.close_code in {None, 4500}
        await stopping
