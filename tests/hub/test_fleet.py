"""Requests between two hubs that share a log: cancel, respond, configure."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from lg_streaming.errors import NoAnswerError, PromptError, UpdateTooLargeError
from lg_streaming.hub import StreamHub
from lg_streaming.hub import fleet as hub_fleet
from lg_streaming.log import EventLog
from lg_streaming.log.redis.log import RedisLog
from lg_streaming.settings import RedisSettings
from tests.hub.helpers import collect, settings_of, types, until
from tests.support.memory_fleet import Network
from tests.support.redis_server import RedisServer


class Pair:
    """Two hubs, each with its own log, as in two processes."""

    def __init__(self, a: EventLog, b: EventLog) -> None:
        self.a = StreamHub(settings_of(cancel_grace=0.05), log=a)
        self.b = StreamHub(settings_of(cancel_grace=0.05), log=b)

    async def flush(self) -> None:
        """The log has everything published so far."""
        await self.a.writer.flush()
        await self.b.writer.flush()

    async def joined(self) -> None:
        """Both are in the fleet."""
        fleet = self.a.log.fleet
        assert fleet is not None
        async with asyncio.timeout(10):
            while len(await fleet.processes()) < 2:
                await asyncio.sleep(0.01)

    async def close(self) -> None:
        await self.a.aclose()
        await self.b.aclose()


class MemoryPair(Pair):
    def __init__(self) -> None:
        self.network = Network()
        super().__init__(self.network.log("a"), self.network.log("b"))


@pytest.fixture
async def memory() -> AsyncGenerator[MemoryPair]:
    pair = MemoryPair()
    yield pair
    await pair.close()


@pytest.fixture(params=["memory", "redis"])
async def pair(request: pytest.FixtureRequest) -> AsyncGenerator[Pair]:
    if request.param == "memory":
        pair: Pair = MemoryPair()
    else:
        server: RedisServer = request.getfixturevalue("shared_redis")
        settings = RedisSettings(prefix=request.getfixturevalue("redis_prefix"))
        logs = [RedisLog(server.url, redis=settings) for _ in "ab"]
        pair = Pair(*logs)
        for log in logs:
            log.fleet.start()
        await until(lambda: all(len(log.fleet.live) == len(logs) for log in logs))
    yield pair
    await pair.close()


async def everything(hub: StreamHub, execution_id: str = "e") -> list[Any]:
    return await collect(hub.subscribe(execution_id))


# ---------------------------------------------------------------- cancel
async def test_a_run_of_another_process_is_cancelled_there(pair: Pair) -> None:
    assert await pair.b.cancel("e") is False
    pair.a.open("e")
    await pair.flush()
    assert await pair.b.cancel("e", "enough") is True
    updates = await everything(pair.b)
    assert (types(updates), updates[-1].data) == (["workflow_start", "workflow_cancelled"], {"reason": "enough"})
    assert not pair.a.registry.is_running("e")
    assert await pair.b.cancel("e") is False


async def test_handlers_are_called_on_the_event_loop_of_their_registration(pair: Pair) -> None:
    threads: list[tuple[str, threading.Thread]] = []

    async def stop(reason: str | None) -> None:
        threads.append(("async", threading.current_thread()))
        await pair.a.close("e", reason)

    pair.a.on_cancel("e", lambda reason: threads.append(("sync", threading.current_thread())))
    pair.a.on_cancel("e", stop)
    pair.a.open("e")
    await pair.flush()
    assert await pair.b.cancel("e", "enough")
    assert types(await everything(pair.b)) == ["workflow_start", "workflow_complete"]
    here = threading.current_thread()
    assert threads == [("sync", here), ("async", here)]


async def test_a_run_that_does_not_stop_ends_after_the_grace(pair: Pair) -> None:
    pair.a.on_cancel("e", lambda reason: None)
    pair.a.open("e")
    await pair.flush()
    assert await pair.b.cancel("e", "enough")
    assert types(await everything(pair.b)) == ["workflow_start", "workflow_cancelled"]


async def test_a_run_of_a_dead_process_ends_as_cancelled(memory: MemoryPair) -> None:
    memory.a.open("e", metadata={"k": 1})
    memory.network.fleets["a"].alive = False
    assert await memory.b.cancel("e", "enough")
    updates = await everything(memory.b)
    assert (updates[-1].type, updates[-1].data) == ("workflow_cancelled", {"reason": "enough"})
    assert updates[-1].metadata.scope.run_id == updates[0].metadata.scope.run_id
    assert await memory.b.cancel("e") is False


async def test_a_live_process_without_an_answer_keeps_its_run(memory: MemoryPair) -> None:
    memory.a.open("e")
    memory.network.fleets["a"].deaf = True
    with pytest.raises(NoAnswerError):
        await memory.b.cancel("e")
    with pytest.raises(NoAnswerError):
        await memory.b.respond("e", "p", 1)
    assert memory.a.registry.is_running("e")


async def test_a_run_without_a_holder_is_cancelled(memory: MemoryPair) -> None:
    memory.a.open("e")
    memory.network.holders["e"] = None
    assert await memory.b.cancel("e")
    assert types(await everything(memory.b)) == ["workflow_start", "workflow_cancelled"]


async def test_a_run_that_its_hub_has_forgotten_is_cancelled_from_either_side(memory: MemoryPair) -> None:
    for hub, execution_id in ((memory.a, "one"), (memory.b, "two")):
        memory.a.open(execution_id)
        await memory.a.lifespan.restart()
        assert await hub.cancel(execution_id)
        assert types(await everything(hub, execution_id)) == ["workflow_start", "workflow_cancelled"]


async def test_a_cancel_reaches_the_handlers_of_guests(pair: Pair) -> None:
    reasons: list[str | None] = []
    pair.a.open("e")
    await pair.flush()
    pair.b.on_cancel("e", reasons.append)
    pair.b.publish("e", "note", 1)
    await pair.flush()
    assert await pair.a.cancel("e", "enough")
    await until(lambda: reasons == ["enough"])
    pair.a.open("f")
    await pair.flush()
    pair.b.on_cancel("f", reasons.append)
    pair.b.publish("f", "note", 1)
    await pair.flush()
    assert await pair.b.cancel("f", "from the guest")
    assert reasons == ["enough", "from the guest"]
    assert types(await everything(pair.a, "f"))[-1] == "workflow_cancelled"


async def test_a_late_notice_of_a_cancel_leaves_a_later_run(memory: MemoryPair) -> None:
    memory.b.open("e")
    await memory.b.close("e")
    memory.b.open("e")
    memory.network.fleets["a"].publish("cancel", {"execution_id": "e", "reason": None, "final_seq": 0})
    memory.network.fleets["a"].publish("cancel", {"execution_id": "unknown", "reason": None, "final_seq": 0})
    done = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def after() -> None:
        loop.call_soon_threadsafe(done.set)

    memory.network.fleets["b"].loop.call_soon_threadsafe(memory.network.fleets["b"].spawn, after)
    await asyncio.wait_for(done.wait(), 5)
    assert memory.b.registry.is_running("e")


# ---------------------------------------------------------------- respond
def ask(hub: StreamHub, prompt_id: str = "p", execution_id: str = "e") -> None:
    hub.emitter(execution_id).event("human_prompt", {"prompt_id": prompt_id, "prompt": "Go on?"})


async def test_a_prompt_of_another_process_is_answered_once(pair: Pair) -> None:
    answers: list[tuple[str, object, threading.Thread]] = []
    pair.a.on_response(
        "e", lambda prompt_id, response: answers.append((prompt_id, response, threading.current_thread()))
    )
    ask(pair.a)
    await pair.flush()
    results = await asyncio.gather(
        pair.a.respond("e", "p", {"by": "a"}), pair.b.respond("e", "p", {"by": "b"}), return_exceptions=True
    )
    lost = [result for result in results if result is not None]
    assert [type(error) for error in lost] == [PromptError]
    await until(lambda: len(answers) == 1)
    assert answers[0][2] is threading.current_thread()
    await pair.a.close("e")
    responses = [update for update in await everything(pair.b) if update.type == "human_response"]
    assert [update.data["response"] for update in responses] == [answers[0][1]]


async def test_errors_of_the_other_process_come_back(pair: Pair) -> None:
    with pytest.raises(PromptError):
        await pair.b.respond("e", "p", 1)
    ask(pair.a)
    await pair.flush()
    with pytest.raises(PromptError):
        await pair.b.respond("e", "unknown", 1)
    with pytest.raises(UpdateTooLargeError):
        await pair.b.respond("e", "p", "x" * 2_000_000)
    await pair.b.respond("e", "p", 1)
    with pytest.raises(PromptError):
        await pair.b.respond("e", "p", 2)
    await pair.a.close("e")
    with pytest.raises(PromptError):
        await pair.b.respond("e", "p", 2)


async def test_a_prompt_of_a_guest_is_answered(pair: Pair) -> None:
    pair.a.open("e")
    await pair.flush()
    ask(pair.b)
    await pair.flush()
    await pair.joined()
    await pair.a.respond("e", "p", 1)
    with pytest.raises(PromptError):
        await pair.a.respond("e", "p", 2)


async def test_a_prompt_of_a_dead_process_gets_no_answer(memory: MemoryPair) -> None:
    ask(memory.a)
    memory.network.fleets["a"].alive = False
    with pytest.raises(NoAnswerError, match="has ended"):
        await memory.b.respond("e", "p", 1)


async def test_a_prompt_of_a_live_guest_is_answered_when_the_holder_is_dead(memory: MemoryPair) -> None:
    c = StreamHub(settings_of(cancel_grace=0.05), log=memory.network.log("c"))
    memory.a.open("e")
    ask(c)
    memory.network.fleets["a"].alive = False
    await memory.b.respond("e", "p", 1)
    with pytest.raises(NoAnswerError, match="has ended"):
        await memory.b.respond("e", "p", 2)
    state = await c.describe("e")
    assert state is not None
    assert state.head == 3
    await c.aclose()


# ---------------------------------------------------------------- configure
async def test_options_hold_where_the_run_is_and_where_one_begins_later(memory: MemoryPair) -> None:
    memory.a.open("e")
    memory.b.configure("e", token={"buffer_size": 7}, event={"enabled": False})
    await until(lambda: memory.a.publisher.defaults("e").current.token.buffer_size == 7)
    assert not memory.a.publisher.defaults("e").current.event.enabled
    await until(lambda: ("configure e", "event.enabled") in memory.network.store)
    memory.a.configure("e", token={"buffer_size": 8})
    await until(lambda: memory.b.publisher.defaults("e").current.token.buffer_size == 8)
    await until(lambda: memory.network.store.get(("configure e", "token.buffer_size")) == 8)
    c = StreamHub(log=memory.network.log("c"))
    c.open("e")
    await until(lambda: c.publisher.defaults("e").current.token.buffer_size == 8)
    assert not c.publisher.defaults("e").current.event.enabled
    await c.aclose()


async def test_options_that_arrive_during_the_look_up_win(memory: MemoryPair, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.network.store["configure e", "token.buffer_size"] = 7
    memory.network.store["configure e", "token.flush_interval"] = 0.5
    fleet, read, go = memory.network.fleets["b"], threading.Event(), asyncio.Event()
    look_up = fleet.values

    async def slow(kind: str) -> Any:
        found = await look_up(kind)
        read.set()
        await go.wait()
        return found

    monkeypatch.setattr(fleet, "values", slow)
    memory.b.open("e")
    await until(read.is_set)
    memory.b.configure("e", token={"buffer_size": 9})
    fleet.loop.call_soon_threadsafe(go.set)
    await until(lambda: memory.b.publisher.defaults("e").current.token.flush_interval == 0.5)
    assert memory.b.publisher.defaults("e").current.token.buffer_size == 9


async def test_options_of_another_version_are_left_out(memory: MemoryPair, caplog: pytest.LogCaptureFixture) -> None:
    memory.b.open("e")
    memory.network.fleets["a"].publish("configure", {"execution_id": "e", "options": {"token": {"no_such": 1}}})
    await until(lambda: bool(caplog.records))
    assert "cannot be used here" in caplog.text


# ---------------------------------------------------------------- guests
async def test_a_guests_run_closes_after_the_run_has_ended(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_fleet, "_FIRST_CHECK", 0.0)
    monkeypatch.setattr(hub_fleet, "_GUEST_INTERVAL", 0.01)
    pair.a.open("e")
    await pair.flush()
    pair.b.publish("e", "note", 1)
    await pair.flush()
    pair.b.open("own")
    await pair.flush()
    await asyncio.sleep(0.05)
    assert pair.b.registry.is_running("e")
    await pair.a.close("e")
    await until(lambda: not pair.b.registry.is_running("e"))
    assert types(await everything(pair.a)) == ["workflow_start", "note", "workflow_complete"]
    assert pair.b.registry.is_running("own")
