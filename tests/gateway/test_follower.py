"""`WildcardSubscription` under all events of its executions: every update from its beginning on, once, in order."""
# pyright: reportPrivateUsage=false

import asyncio
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lg_streaming.errors import LogUnavailableError
from lg_streaming.events import Position
from lg_streaming.filters import UpdateFilter
from lg_streaming.gateway.delivery.frames import CHUNK_BYTES, FrameCache, Frames, web_socket_frame
from lg_streaming.gateway.delivery.pump import WildcardPump
from lg_streaming.gateway.session.instrumentation import ConnectionInstrumentation
from lg_streaming.gateway.transports.websocket import EncodeEach
from lg_streaming.hub import StreamHub, Subscription
from lg_streaming.hub.carry import carry
from lg_streaming.hub.wildcard import WildcardPage, WildcardSubscription
from lg_streaming.hub.wildcard_notifier import WildcardNotifier
from lg_streaming.log import LogState, MemoryLog, ReadResult
from lg_streaming.observability.events import GatewayEvents
from lg_streaming.observability.gateway_metrics import GatewayMetrics
from tests.hub.helpers import soon


class Watcher:
    """A follower and what it has given."""

    def __init__(self, hub: StreamHub, patterns: WildcardNotifier, *globs: str) -> None:
        self.forbidden: set[str] = set()
        self.direct: set[str] = set()
        self.got: list[tuple[str, int]] = []
        self.follower = WildcardSubscription(
            hub.readers,
            patterns,
            globs=globs or ("**",),
            filter=UpdateFilter(),
            allows=self._allows,
            skips=self.direct.__contains__,
            clock=time.monotonic,
        )

    async def _allows(self, execution_id: str) -> bool:
        return execution_id not in self.forbidden

    async def wait_writable(self) -> bool:
        await asyncio.sleep(0)
        return False

    async def send(self, page: WildcardPage, *, waited: bool) -> None:
        assert not waited
        if page.subscription is not None:
            self.got += [(page.subscription.execution_id, record.seq) for record in page.page.records]

    async def log_unavailable(self, error: LogUnavailableError) -> None:
        raise AssertionError(error)

    async def read(self) -> None:
        await carry(self.follower, self)

    def numbers(self, execution_id: str) -> list[int]:
        return [number for name, number in self.got if name == execution_id]


async def settle() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


STEPS = st.sampled_from(["publish", "end", "recheck", "forbid", "allow", "watch", "unwatch", "settle"])


@settings(max_examples=60)
@given(st.lists(st.tuples(STEPS, st.sampled_from("ab")), max_size=40))
def test_whatever_happens_every_update_comes_once_and_in_order(steps: list[tuple[str, str]]) -> None:
    asyncio.run(_walk(steps))


async def _walk(steps: list[tuple[str, str]]) -> None:
    hub = StreamHub()
    hub.publish("a", "note")  # before the follower began: not for it
    watcher = Watcher(hub, WildcardNotifier(hub.log))
    watcher.follower.start()
    reading = asyncio.create_task(watcher.read())
    direct: dict[str, Subscription] = {}
    elsewhere: dict[str, set[int]] = {"a": {1, 2}, "b": set()}
    for step, name in [*steps, ("allow", "a"), ("allow", "b"), ("unwatch", "a"), ("unwatch", "b"), ("settle", "a")]:
        match step:
            case "publish":
                hub.open(name)
                hub.publish(name, "note")
            case "end":
                await hub.close(name)
            case "recheck":
                watcher.follower.reauthorize()
            case "forbid":
                watcher.forbidden.add(name)
                watcher.follower.reauthorize()
            case "allow":
                watcher.forbidden.discard(name)
                watcher.follower.reauthorize()
            case "watch" if name not in direct:
                await settle()  # what is published is with the follower by now
                direct[name] = hub.subscribe(name, after="latest", follow=True)
                await direct[name].start()
                watcher.direct.add(name)
                watcher.follower.skip_to(name, None)
            case "unwatch" if name in direct:
                elsewhere[name] |= await _read_out(direct[name])
                watcher.direct.discard(name)
                watcher.follower.skip_to(name, direct.pop(name).position)
            case _:
                await settle()
    await settle()
    told_apart = any(step == "forbid" for step, _ in steps)
    await _check(hub, watcher, elsewhere, complete=not told_apart)
    watcher.follower.close()
    await soon(reading)
    assert hub.statistics().subscriptions == 0
    await hub.aclose()


async def _check(hub: StreamHub, watcher: Watcher, elsewhere: dict[str, set[int]], *, complete: bool) -> None:
    for name in "ab":
        state = await hub.describe(name)
        head = state.head if state is not None else 0
        numbers = watcher.numbers(name)
        assert numbers == sorted(set(numbers))
        assert not set(numbers) & elsewhere[name]
        if complete:
            assert set(numbers) | elsewhere[name] == set(range(1, head + 1))


async def _read_out(subscription: Subscription) -> set[int]:
    """The next two of what a direct subscription has for its client; the rest it leaves to the follower."""
    page = await subscription.poll(2)
    subscription.close()
    return set() if page is None else {record.seq for record in page.records}


async def test_a_place_further_back_is_not_gone_back_to() -> None:
    hub = StreamHub()
    watcher = Watcher(hub, WildcardNotifier(hub.log))
    watcher.follower.start()
    reading = asyncio.create_task(watcher.read())
    hub.publish("a", "note")
    await settle()
    state = await hub.describe("a")
    assert state is not None
    watcher.follower.skip_to("a", Position(state.epoch, 1))
    hub.publish("a", "note")
    await settle()
    assert watcher.numbers("a") == [1, 2, 3]
    watcher.follower.skip_to("a", Position(state.epoch, 4))
    hub.publish("a", "note")
    hub.publish("a", "note")
    await settle()
    assert watcher.numbers("a") == [1, 2, 3, 5]
    watcher.follower.close()
    await soon(reading)
    await hub.aclose()


async def test_what_was_read_by_another_way_before_it_was_heard_of_does_not_come_again() -> None:
    hub = StreamHub()
    hub.publish("a", "note")
    watcher = Watcher(hub, WildcardNotifier(hub.log))
    watcher.follower.start()
    reading = asyncio.create_task(watcher.read())
    direct = hub.subscribe("a", after="latest", follow=True)
    await direct.start()
    hub.publish("a", "note")
    assert await _read_out(direct) == {3}
    watcher.follower.skip_to("a", direct.position)  # in the same turn of the event loop
    hub.publish("a", "note")
    await settle()
    assert watcher.numbers("a") == [4]
    watcher.follower.skip_to("b", Position("another", 7))  # nothing new is known of it, so it is not read
    await settle()
    assert watcher.numbers("b") == []
    watcher.follower.close()
    await soon(reading)
    await hub.aclose()


async def test_what_was_read_by_another_way_during_a_denial_does_not_come_again() -> None:
    hub = StreamHub()
    watcher = Watcher(hub, WildcardNotifier(hub.log))
    watcher.follower.start()
    reading = asyncio.create_task(watcher.read())
    watcher.forbidden.add("a")
    hub.publish("a", "note")
    await settle()
    direct = hub.subscribe("a", after="latest", follow=True)
    await direct.start()
    hub.publish("a", "note")
    assert await _read_out(direct) == {3}
    watcher.follower.skip_to("a", direct.position)
    watcher.forbidden.clear()
    watcher.follower.reauthorize()
    hub.publish("a", "note")
    await settle()
    assert watcher.numbers("a") == [4]
    watcher.follower.close()
    await soon(reading)
    await hub.aclose()


async def test_what_was_published_meanwhile_comes_when_the_other_way_ends() -> None:
    hub = StreamHub()
    watcher = Watcher(hub, WildcardNotifier(hub.log))
    watcher.follower.start()
    reading = asyncio.create_task(watcher.read())
    watcher.direct.add("a")
    watcher.follower.skip_to("a", None)
    for _ in range(4):
        hub.publish("a", "note")
    await hub.close("a")
    await settle()
    assert watcher.got == []
    state = await hub.describe("a")
    assert state is not None
    watcher.direct.clear()
    watcher.follower.skip_to("a", Position(state.epoch, 3))
    await settle()
    assert watcher.numbers("a") == [4, 5, 6]
    watcher.follower.close()
    await soon(reading)
    await hub.aclose()


async def test_what_is_denied_is_not_asked_about_with_every_update() -> None:
    hub = StreamHub()
    asked: list[str] = []

    async def allows(execution_id: str) -> bool:
        asked.append(execution_id)
        return False

    follower = WildcardSubscription(
        hub.readers,
        WildcardNotifier(hub.log),
        globs=("**",),
        filter=UpdateFilter(),
        allows=allows,
        skips=lambda _: False,
        clock=time.monotonic,
    )
    follower.start()

    watcher = Watcher(hub, WildcardNotifier(hub.log))
    reading = asyncio.create_task(carry(follower, watcher))
    for _ in range(50):
        hub.publish("a", "note")
        await settle()
    assert asked == ["a"]
    follower.reauthorize()
    await settle()
    await settle()  # it waits to be ready for as long
    assert asked == ["a", "a"]
    follower.close()
    assert (await soon(reading)).ended
    assert watcher.got == []
    await hub.aclose()


async def test_the_log_is_listened_to_only_while_somebody_follows() -> None:
    hub = StreamHub()
    listening: list[str] = []
    original = hub.log.listen_positions

    def listen(listener: Any) -> Any:
        stop = original(listener)
        listening.append("on")

        def unlisten() -> None:
            listening.append("off")
            stop()

        return unlisten

    hub.log.listen_positions = listen
    patterns = WildcardNotifier(hub.log)
    first, second = Watcher(hub, patterns), Watcher(hub, patterns, "b*")
    first.follower.start()
    second.follower.start()
    first.follower.close()
    assert listening == ["on"]
    second.follower.close()
    second.follower.close()
    assert listening == ["on", "off"]
    await hub.aclose()


# ---------------------------------------------------------------- what may be read changes meanwhile
class _Reader:
    """A reader that takes only when it is let, and what has reached it."""

    def __init__(self) -> None:
        self.reads = asyncio.Event()
        self.reads.set()
        self.got = b""

    async def wait_writable(self) -> bool:
        await self.reads.wait()
        return False

    async def write(self, frames: Frames) -> None:
        await self.wait_writable()
        self.got += frames.wire
        self.reads.clear()  # one piece at a time

    async def send_event(self, event: str, payload: dict[str, object]) -> None:
        raise AssertionError(event, payload)

    def limit_buffer(self) -> None: ...


def _report() -> ConnectionInstrumentation:
    return ConnectionInstrumentation(GatewayMetrics(()), GatewayEvents(), "websocket")


@pytest.mark.parametrize("forbidden", [False, True])
async def test_what_was_read_and_waits_is_sent_only_if_it_may_still_be_read(forbidden: bool) -> None:
    hub = StreamHub()
    watcher = Watcher(hub, WildcardNotifier(hub.log))
    watcher.follower.start()
    reader, report = _Reader(), _report()
    hub.open("a")
    for name in ("first", "second"):
        hub.publish("a", name, "x" * CHUNK_BYTES)  # a piece each
    pump = WildcardPump(watcher.follower, EncodeEach(web_socket_frame), reader, cache=FrameCache(), observer=report)
    task = asyncio.create_task(carry(watcher.follower, pump))
    while b"first" not in reader.got:
        reader.reads.set()
        await settle()
    assert b"second" not in reader.got
    if forbidden:
        watcher.forbidden.add("a")
    watcher.follower.reauthorize()
    for _ in range(3):
        reader.reads.set()
        await settle()
    assert (b"second" in reader.got) is not forbidden
    watcher.follower.close()
    reader.reads.set()
    await soon(task)
    await hub.aclose()


async def test_an_answer_about_former_rights_does_not_count() -> None:
    hub = StreamHub()
    watcher = Watcher(hub, WildcardNotifier(hub.log))
    asked, answer = asyncio.Event(), asyncio.Event()

    async def slowly(execution_id: str) -> bool:
        allowed = execution_id not in watcher.forbidden
        asked.set()
        await answer.wait()
        return allowed

    watcher.follower._allows = slowly
    watcher.follower.start()
    reading = asyncio.create_task(watcher.read())
    hub.publish("a", "note")
    await asked.wait()
    watcher.forbidden.add("a")
    watcher.follower.reauthorize()
    answer.set()
    await settle()
    assert watcher.got == []
    watcher.follower.close()
    await soon(reading)
    await hub.aclose()


class _WaitingLog(MemoryLog):
    """A log whose reads take until they are released, as of a log on another machine."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = asyncio.Event()
        self.released = asyncio.Event()

    async def read(self, execution_id: str, after: int, limit: int) -> ReadResult | None:
        self.reading.set()
        await self.released.wait()
        return await super().read(execution_id, after, limit)

    async def state(self, execution_id: str) -> LogState | None:
        found = await super().read(execution_id, 0, 0)
        return found.state if found is not None else None


@pytest.mark.parametrize("change", ["recheck", "narrow", "watch"])
async def test_a_page_that_is_being_read_while_everything_is_asked_again_comes_once(change: str) -> None:
    log = _WaitingLog()
    hub = StreamHub(log=log)
    watcher = Watcher(hub, WildcardNotifier(log))
    watcher.follower.start()
    reading = asyncio.create_task(watcher.read())
    hub.publish("a", "token", {"content": "x"})
    await log.reading.wait()
    match change:
        case "recheck":
            watcher.follower.reauthorize()
        case "narrow":
            watcher.follower.narrow(UpdateFilter())
        case _:
            watcher.direct.add("a")
            watcher.follower.skip_to("a", None)
    log.released.set()
    await settle()
    assert watcher.numbers("a") == ([] if change == "watch" else [1, 2])
    watcher.follower.close()
    await reading
    await hub.aclose()


async def test_an_execution_that_has_much_to_say_does_not_keep_others_waiting() -> None:
    hub = StreamHub()
    watcher = Watcher(hub, WildcardNotifier(hub.log))
    watcher.follower.start()
    for _ in range(1_500):
        hub.publish("loud", "note")
    hub.publish("quiet", "note")
    reading = asyncio.create_task(watcher.read())
    await settle()
    assert watcher.numbers("loud") == list(range(1, 1_502))  # with the status that begins it
    assert watcher.got.index(("quiet", 1)) < watcher.got.index(("loud", 600))
    watcher.follower.close()
    await soon(reading)
    await hub.aclose()


def test_patterns_hear_on_the_next_event_loop_too() -> None:
    hub = StreamHub()
    patterns = WildcardNotifier(hub.log)

    async def heard(*, leaves_at_once: bool) -> list[str]:
        found: list[str] = []
        unlisten = patterns.listen(lambda execution_id, _: found.append(execution_id))
        hub.publish("a", "note")
        if not leaves_at_once:
            await settle()
        unlisten()
        return found

    assert asyncio.run(heard(leaves_at_once=True)) == []
    assert asyncio.run(heard(leaves_at_once=False)) == ["a"]
    asyncio.run(hub.aclose())


def test_a_loop_that_closes_while_an_update_is_appended_is_no_error_of_the_publisher() -> None:
    class Closing(asyncio.SelectorEventLoop):
        late = False

        def is_closed(self) -> bool:
            return super().is_closed() and not self.late

    hub = StreamHub()
    loop = Closing()
    unlisten = WildcardNotifier(hub.log).listen(lambda _execution_id, _before: None, loop)
    loop.close()
    loop.late = True  # it closes between the look and the call
    hub.publish("a", "note")
    loop.late = False
    unlisten()
    asyncio.run(hub.aclose())
