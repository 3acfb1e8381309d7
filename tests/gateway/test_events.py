"""`subscribe_events`: all executions that a caller may read, each from now on, once, and no others."""

import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import jwt
import pytest

from lg_streaming.gateway import Gateway, Principal
from lg_streaming.hub import StreamHub
from lg_streaming.log import MemoryLog, ReadResult
from lg_streaming.settings import StreamingSettings
from tests.gateway.contract.adapters import (
    PATIENCE,
    READERS,
    SOCKETS,
    Readers,
    RefusedError,
    SocketReader,
    first,
    readers_of,
    take,
)
from tests.gateway.site import SECRET, Site, make_app, site
from tests.hub.faulty import FaultyLog
from tests.support.server import serve

AUTH: dict[str, Any] = {"secret": SECRET}
FAST: dict[str, Any] = {"messages_per_second": None}


def bearer(subject: str = "alice", **claims: Any) -> str:
    return jwt.encode({"sub": subject, "exp": int(time.time()) + 600, **claims}, SECRET, "HS256")


@pytest.fixture(params=SOCKETS)
async def readers(request: pytest.FixtureRequest) -> AsyncGenerator[Readers]:
    async with readers_of(READERS[request.param]) as made:
        yield made


async def watcher(readers: Readers, place: Site, *, token: str | None = None, **wanted: Any) -> SocketReader:
    """A client that watches many executions."""
    reader = readers(place.server, token=token)
    assert isinstance(reader, SocketReader)
    assert (await reader.ask("subscribe_events", wanted))["ok"]
    return reader


@asynccontextmanager
async def one_watcher(place: Site, **wanted: Any) -> AsyncGenerator[SocketReader]:
    async with readers_of(SOCKETS["websocket"]) as readers:
        yield await watcher(readers, place, **wanted)


def seen(updates: list[Any]) -> dict[str, list[int]]:
    """The numbers that came, by execution."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for update in updates:
        found[update["metadata"]["execution_id"]].append(update["metadata"]["sequence_number"])
    return dict(found)


async def all_before(reader: SocketReader, place: Site, mark: str = "mark") -> list[Any]:
    """Return the updates before one that is published now, in a separate execution."""
    place.hub.publish(mark, "mark")
    found: list[Any] = []
    while not found or found[-1]["metadata"]["execution_id"] != mark:
        found += await take(reader, 1)
    return [update for update in found if update["metadata"]["execution_id"] != mark]


@pytest.mark.row("HIVE-63")
async def test_new_executions_from_their_first_update_and_known_ones_from_now_on(readers: Readers) -> None:
    with site(limits=FAST) as place:
        place.tokens("old", 10)
        reader = await watcher(readers, place)
        place.tokens("old", 2, start=10)
        place.tokens("new", 2)
        assert seen(await take(reader, 5)) == {"old": [12, 13], "new": [1, 2, 3]}
        await place.hub.close("new")
        assert seen(await take(reader, 1)) == {"new": [4]}


@pytest.mark.row("HIVE-63")
async def test_what_is_watched_can_be_changed_and_ended(readers: Readers) -> None:
    with site(limits=FAST) as place:
        reader = readers(place.server)
        assert isinstance(reader, SocketReader)
        nothing: dict[str, Any] = {"ok": True, "events": [], "executions": []}
        assert await reader.ask("unsubscribe_events") == nothing
        answer = await reader.ask("subscribe_events", {"events": ["token", "task:*"], "executions": ["acme/*", "x"]})
        assert answer == {"ok": True, "events": ["token", "task:*"], "executions": ["acme/*", "x"]}
        place.tokens("acme/1", 1)
        place.tokens("acme/1/2", 1)
        place.hub.publish("x", "task:done")
        place.hub.publish("x", "note")
        assert seen(await take(reader, 2)) == {"acme/1": [2], "x": [2]}
        answer = await reader.ask("unsubscribe_events", {"events": ["token"]})
        assert answer["events"] == ["task:*"]
        place.tokens("acme/1", 1)
        place.hub.publish("acme/1", "task:done")
        assert seen(await take(reader, 1)) == {"acme/1": [4]}
        assert await reader.ask("unsubscribe_events", {"events": ["task:*"]}) == nothing
        place.hub.publish("acme/1", "task:done")
        assert (await reader.ask("ping"))["ok"]
        assert place.hub.statistics().subscriptions == 0


async def test_runs_one_after_another_all_come(readers: Readers) -> None:
    with site(limits=FAST) as place:
        reader = await watcher(readers, place, batch=True)
        for _ in range(20):
            place.hub.open("chat")
            place.tokens("chat", 1)
            await place.hub.close("chat")
        assert seen(await take(reader, 60)) == {"chat": list(range(1, 61))}
        assert (await reader.ask("ping"))["ok"]
        assert place.hub.statistics().subscriptions == 0


async def test_five_hundred_executions_at_once() -> None:
    with site(limits=FAST) as place:
        async with one_watcher(place, executions=["many/*"], batch=True) as reader:
            for index in range(500):
                place.tokens(f"many/{index}", 3)
                place.tokens(f"other/{index}", 1)
            found = seen(await take(reader, 2_000))
            assert found == {f"many/{index}": [1, 2, 3, 4] for index in range(500)}
            for index in range(500):
                await place.hub.close(f"many/{index}")
            assert Counter(map(tuple, seen(await take(reader, 500)).values())) == {(5,): 500}


# ---------------------------------------------------------------- beside a direct subscription
@pytest.mark.parametrize("batch", [False, True])
async def test_what_is_watched_directly_comes_once_and_goes_on_when_that_ends(batch: bool) -> None:
    with site(limits=FAST) as place:
        async with one_watcher(place) as reader:
            place.tokens("e", 2)
            got = await take(reader, 3)
            sent, started = 2, asyncio.get_running_loop().time()
            for round_number in range(6):
                if round_number % 2:
                    await reader.ask("unsubscribe_execution", {"execution_id": "e"})
                else:
                    await reader.subscribe("e", after="latest" if not round_number else _place(got), batch=batch)
                place.tokens("e", 50, start=sent)
                sent += 50
                got += await take(reader, 1)
            assert asyncio.get_running_loop().time() - started < PATIENCE
            got += await all_before(reader, place)
            numbers = seen(got)["e"]
            assert sorted(set(numbers)) == list(range(1, sent + 2))


def _place(updates: list[Any]) -> str:
    metadata = updates[-1]["metadata"]
    return f"{metadata['epoch']}:{metadata['sequence_number']}"


async def test_a_subscription_that_is_dropped_early_does_not_take_the_watcher_back() -> None:
    with site(limits=FAST) as place:
        async with one_watcher(place) as reader:
            place.tokens("e", 50)
            assert seen(await take(reader, 51))["e"] == list(range(1, 52))
            await reader.subscribe("e", events=["nothing"])
            await reader.ask("unsubscribe_execution", {"execution_id": "e"})
            place.tokens("e", 1)
            assert seen(await take(reader, 1)) == {"e": [52]}


async def test_what_was_published_before_a_direct_subscription_ended_is_not_stuck() -> None:
    with site(limits=FAST) as place:
        async with one_watcher(place) as reader:
            place.tokens("e", 1)
            await take(reader, 2)
            await reader.subscribe("e", events=["note"], after="latest")
            await reader.ask("subscribe_events")
            await place.hub.close("e")
            assert (await first(reader, "end")).name == "ended"
            place.tokens("f", 1)
            assert "f" in seen(await take(reader, 1))


# ---------------------------------------------------------------- who may see what
@contextmanager
def tenants(**options: Any) -> Generator[Site]:
    with site(auth=AUTH, limits=FAST, **options) as place:
        yield place


@pytest.mark.row("HIVE-D17", "CFLOW-D4")
async def test_everybody_sees_his_own_and_nothing_tells_that_there_is_more(readers: Readers) -> None:
    with tenants() as place:
        alice = await watcher(readers, place, token=bearer())
        bob = await watcher(readers, place, token=bearer("bob"))
        for round_number in range(20):
            for owner in ("alice", "bob", "carol"):
                place.hub.open(f"{owner}/run", owner=owner)
                place.tokens(f"{owner}/run", 1, start=round_number)
        for reader, owner in ((alice, "alice"), (bob, "bob")):
            assert seen(await take(reader, 21)) == {f"{owner}/run": list(range(1, 22))}
            answer = await reader.ask("get_status")
            assert "carol" not in json.dumps(answer)
            assert (await reader.ask("ping"))["ok"]
            assert not [item for item in reader.kept if "carol" in json.dumps(item.payload)]


@pytest.mark.row("HIVE-D17")
async def test_a_watcher_without_any_filter_gets_no_tenants_events_but_its_own() -> None:
    with tenants() as place:
        async with one_watcher(place, token=bearer(), executions=["**"], events=["token"]) as reader:
            place.hub.open("hers", owner="bob")
            place.tokens("hers", 100)
            place.hub.open("mark", owner="alice")
            place.tokens("mark", 1)
            assert seen(await take(reader, 1)) == {"mark": [2]}


async def test_an_execution_whose_owner_is_known_later_comes_from_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lg_streaming.hub.denials._LIFETIME", 0.5)
    with tenants() as place:
        async with one_watcher(place, token=bearer()) as reader:
            place.tokens("e", 3)
            await asyncio.sleep(0.1)
            place.hub.open("e", owner="alice")
            await place.hub.close("e")
            assert seen(await take(reader, 5)) == {"e": [1, 2, 3, 4, 5]}


async def test_a_fresh_token_that_allows_less_or_more_is_looked_at_again(readers: Readers) -> None:
    def granting(glob: str) -> str:
        return bearer(lg_streaming=[{"actions": ["read"], "executions": [glob]}])

    with tenants() as place:
        reader = await watcher(readers, place, token=granting("a/*"))
        place.tokens("a/1", 1)
        place.tokens("b/1", 1)
        assert seen(await take(reader, 2)) == {"a/1": [1, 2]}
        await reader.ask("authenticate", {"token": granting("b/*")})
        place.tokens("a/1", 5)
        place.tokens("b/1", 1)
        assert seen(await take(reader, 3)) == {"b/1": [1, 2, 3]}
        await reader.ask("authenticate", {"token": granting("a/*")})
        place.tokens("a/1", 1)
        assert seen(await take(reader, 6)) == {"a/1": list(range(3, 9))}


async def test_the_application_may_say_no_or_fail_without_telling(caplog: pytest.LogCaptureFixture) -> None:
    async def authorize(_: Principal, __: str, execution_id: str, ___: str | None) -> bool:
        if execution_id == "broken":
            raise RuntimeError("the application is not well")
        return execution_id == "yes"

    with tenants(authorize=authorize) as place:
        async with one_watcher(place, token=bearer("mallory")) as reader:
            for execution_id in ("no", "broken", "yes"):
                place.tokens(execution_id, 1)
            assert seen(await take(reader, 2)) == {"yes": [1, 2]}
            assert (await reader.ask("ping"))["ok"]
            assert not reader.kept
    caplog.clear()  # that authorize failed is in the log


# ---------------------------------------------------------------- trouble
async def test_who_reads_all_uses_up_nothing_of_an_execution_and_is_not_kept_out() -> None:
    with site(limits={**FAST, "max_subscribers_per_execution": 1}) as place:
        place.tokens("e", 10)
        async with (
            one_watcher(place) as reader,
            one_watcher(place) as second,
            readers_of(SOCKETS["websocket"]) as others,
        ):
            place.tokens("e", 5, start=10)
            for each in (reader, second):
                assert seen(await take(each, 5)) == {"e": list(range(12, 17))}
            other = others(place.server)
            await other.subscribe("e", follow=True)
            with pytest.raises(RefusedError) as refused:
                await others(place.server).subscribe("e")
            assert refused.value.code == 4294
            async with one_watcher(place) as third:  # the execution has all the readers it may have
                place.tokens("e", 1, start=15)
                for each in (reader, second, third):
                    assert seen(await take(each, 1)) == {"e": [17]}
    assert place.hub.statistics().subscriptions == 0


async def test_of_many_executions_only_so_many_are_open_and_nothing_is_lost() -> None:
    with site(limits={**FAST, "subscriptions_per_connection": 3}) as place:
        async with one_watcher(place) as reader:
            names = [f"e{number}" for number in range(20)]
            for turn in range(3):
                for name in names:
                    place.tokens(name, 1, start=turn)
                got = seen(await take(reader, len(names) * (2 if not turn else 1)))
                assert got == {name: [1, 2] if not turn else [turn + 2] for name in names}
                assert place.hub.statistics().subscriptions <= 3


async def test_beginning_looks_at_no_execution() -> None:
    log = CountingLog()
    hub = StreamHub(StreamingSettings.model_validate({"limits": FAST}), log=log)
    gateway = Gateway(hub)
    with serve(make_app(hub, gateway), log_config=None) as server:
        place = Site(hub=hub, gateway=gateway, server=server)
        for number in range(2_000):
            place.tokens(f"other{number}", 1)
        async with one_watcher(place) as reader:
            log.looks = 0
            for _ in range(5):
                await reader.ask("subscribe_events")
            assert log.looks == 0
            place.tokens("other7", 1, start=1)
            assert seen(await take(reader, 1)) == {"other7": [3]}
            assert log.looks < 20


class CountingLog(MemoryLog):
    """A log that counts reads of executions' states, and lists of them."""

    looks = 0

    async def read(self, execution_id: str, after: int, limit: int) -> ReadResult | None:
        self.looks += 1
        return await super().read(execution_id, after, limit)

    async def executions(self) -> Sequence[str]:
        self.looks += 1_000
        return await super().executions()


async def test_a_log_that_is_away_for_a_while() -> None:
    log = FaultyLog()
    hub = StreamHub(StreamingSettings.model_validate({"limits": FAST}), log=log)
    gateway = Gateway(hub)
    with serve(make_app(hub, gateway), log_config=None) as server:
        place = Site(hub=hub, gateway=gateway, server=server)
        async with one_watcher(place) as reader:
            place.tokens("e", 2)
            assert seen(await take(reader, 3)) == {"e": [1, 2, 3]}
            log.away = True
            place.tokens("e", 20)
            place.tokens("f", 2)
            with pytest.raises(RefusedError) as refused:
                await reader.subscribe("e")
            assert refused.value.code == 5030
            log.away = False
            assert seen(await take(reader, 23)) == {"e": list(range(4, 24)), "f": [1, 2, 3]}


async def test_leaving_some_events_loses_none_of_the_others() -> None:
    with site(limits=FAST) as place:
        async with one_watcher(place) as reader:
            await reader.ask("subscribe_events", {"events": ["token", "note", "mark"]})
            place.tokens("e", 400)
            place.hub.publish("e", "note")
            left = await reader.ask("unsubscribe_events", {"events": ["note"]})
            assert left["events"] == ["token", "mark"]
            place.tokens("e", 100, start=400)
            place.hub.publish("e", "note")
            got = await all_before(reader, place)
            tokens = [update["data"]["index"] for update in got if update["type"] == "token"]
            assert sorted(set(tokens)) == list(range(500))
