"""Updates, end and notification of a sink."""

import asyncio
import threading
from collections.abc import Awaitable, Sequence
from typing import Any, cast

import pytest

from lg_streaming import Position, StreamUpdate, UpdateFilter
from lg_streaming.backoff import Backoff
from lg_streaming.errors import (
    BadPositionError,
    BadRequestError,
    HubClosedError,
    SubscriberLimitError,
)
from lg_streaming.hub import CloseReason, SendPolicy, Sink, StreamHub
from tests.hub.faulty import FaultyLog
from tests.hub.helpers import MakeHub, Threads, collect, contents, publish_many, seqs, soon, types, until, upto
from tests.sinks.helpers import Recorder, failing, hanging


@pytest.mark.row("AOS-15", "AOS-24")
async def test_each_sink_gets_all_of_its_execution_and_of_no_other(hub: StreamHub) -> None:
    one, two, other = Recorder("one"), Recorder("two"), Recorder("one")
    assert isinstance(one, Sink)
    attachments = [hub.attach("e", one), hub.attach("e", two), hub.attach("f", other)]
    publish_many(hub, "e", range(10))
    publish_many(hub, "f", ["x"])
    for execution_id in ("e", "f"):
        await hub.close(execution_id)
    for attachment in attachments:
        await soon(attachment.wait())
    assert seqs(one.got) == seqs(two.got) == upto(12)
    assert contents(other.got) == ["x"]
    assert {update.metadata.execution_id for update in one.got} == {"e"}
    assert [attachment.delivered for attachment in attachments] == [12, 12, 3]


@pytest.mark.row("AOS-D9")
async def test_a_late_sink_gets_what_was_before_it_and_then_what_comes(hub: StreamHub) -> None:
    publish_many(hub, "e", range(5))
    sink = Recorder()
    attachment = hub.attach("e", sink)
    await soon(hub.sinks.flush("e"))
    assert seqs(sink.got) == upto(6)
    publish_many(hub, "e", range(5))
    await soon(hub.sinks.flush("e"))
    assert seqs(sink.got) == upto(11)
    assert attachment.position is not None
    assert attachment.position.seq == 11


async def test_it_begins_after_a_position(hub: StreamHub) -> None:
    publish_many(hub, "e", range(5))
    state = await hub.describe("e")
    assert state is not None
    known, newest = Recorder("known"), Recorder("newest")
    attached = [hub.attach("e", known, after=Position(state.epoch, 3)), hub.attach("e", newest, after="latest")]
    await soon(hub.sinks.flush("e"))
    await hub.close("e")
    for attachment in attached:
        await soon(attachment.wait())
    assert seqs(known.got) == [4, 5, 6, 7]
    assert seqs(newest.got) == [7]


@pytest.mark.row("PYEV-05")
async def test_filters_are_those_of_a_subscription(hub: StreamHub) -> None:
    categories = UpdateFilter.of(categories=["chat"])
    sinks = {"all": Recorder("all"), "chat": Recorder("chat"), "tokens": Recorder("tokens"), "kinds": Recorder("kinds")}
    hub.attach("e", sinks["all"])
    hub.attach("e", sinks["chat"], filter=categories)
    hub.attach("e", sinks["tokens"], types=["token"])
    hub.attach("e", sinks["kinds"], events=["progress"])
    hub.emitter("e", category="chat").token("hello")
    hub.emitter("e", category="workflow").progress(1, 2)
    await soon(hub.sinks.flush("e"))
    assert {name: types(sink.got) for name, sink in sinks.items()} == {
        "all": ["workflow_start", "token", "progress"],
        "chat": ["token"],
        "tokens": ["token"],
        "kinds": ["progress"],
    }


@pytest.mark.row("AOS-19", "AOS-D5")
@pytest.mark.parametrize("types", [None, ["token"]])
@pytest.mark.parametrize("ending", ["completed", "failed", "cancelled"])
async def test_at_the_end_of_the_run_a_sink_has_everything_then_is_told_how_it_ended_then_closed(
    hub: StreamHub, ending: CloseReason, types: list[str] | None
) -> None:
    sink = Recorder()
    attachment = hub.attach("e", sink, types=types)
    publish_many(hub, "e", range(3))
    if ending == "completed":
        await hub.close("e")
    elif ending == "failed":
        await hub.fail("e", "no")
    else:
        await hub.cancel("e")
    await soon(attachment.wait())
    assert contents(sink.got) == [0, 1, 2]
    assert sink.ending == [f"closed {ending}", "aclose"]
    assert sink.calls[-2:] == sink.ending
    assert (attachment.reason, attachment.active) == (ending, False)
    assert hub.sinks.attached("e") == []
    assert hub.statistics().subscriptions == hub.statistics().sinks == 0


async def test_a_sink_that_comes_after_the_end_gets_all_and_is_closed(hub: StreamHub) -> None:
    publish_many(hub, "e", range(3))
    await hub.fail("e", "no")
    sink = Recorder()
    attachment = hub.attach("e", sink, types=["token"])
    await soon(attachment.wait())
    assert contents(sink.got) == [0, 1, 2]
    assert sink.ending == ["closed failed", "aclose"]


@pytest.mark.row("AOS-14", "AOS-19")
@pytest.mark.parametrize("how", ["raises", "hangs", "cancels itself", "exits"])
async def test_a_sink_that_fails_to_close_is_logged_and_the_others_are_closed(
    hub: StreamHub, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Bad(Recorder):
        async def closed(self, reason: CloseReason) -> None:
            await super().closed(reason)
            if how == "hangs":
                await asyncio.get_running_loop().create_future()
            raise {"raises": ValueError("bad"), "cancels itself": asyncio.CancelledError(), "exits": SystemExit(3)}[how]

    bad, good = Bad("bad"), Recorder("good")
    attachments = [hub.attach("e", bad, send_timeout=0.05), hub.attach("e", good)]
    await hub.close("e")
    hub.publish("e", "token")
    await hub.close("e")
    for attachment in attachments:
        await soon(attachment.wait())
    assert bad.ending == good.ending == ["closed completed", "aclose"]
    assert [line for line in caplog.messages if "'bad'" in line and "could not be closed" in line]
    assert hub.statistics().sink_errors == 1


@pytest.mark.row("AOS-12")
async def test_the_same_sink_again_changes_nothing_and_another_of_its_name_is_refused(hub: StreamHub) -> None:
    sink = Recorder()
    attachment = hub.attach("e", sink)
    assert hub.attach("e", sink) is attachment
    with pytest.raises(BadRequestError, match="replace=True"):
        hub.attach("e", Recorder())
    hub.attach("f", Recorder())  # the id is of one execution
    publish_many(hub, "e", range(3))
    await hub.close("e")
    await soon(attachment.wait())
    assert seqs(sink.got) == upto(5)
    assert hub.statistics().sinks == 1


@pytest.mark.row("FLOW-15", "FLOW-D1")
async def test_a_sink_that_is_replaced_is_closed_and_its_end_does_not_touch_the_new_one(hub: StreamHub) -> None:
    old, new = Recorder(), Recorder()
    first = hub.attach("e", old)
    hub.publish("e", "token")
    await soon(hub.sinks.flush("e"))
    second = hub.attach("e", new, replace=True, after=first.position)
    await soon(first.wait())
    assert old.ending == ["closed replaced", "aclose"]
    assert hub.sinks.attached("e") == [second]
    first.detach()
    await hub.close("e")
    await soon(second.wait())
    assert (seqs(old.got), seqs(new.got)) == ([1, 2], [3])


@pytest.mark.row("AOS-13", "FLOW-17", "FLOW-18")
@pytest.mark.row("FLOW-D11")
async def test_detaching(hub: StreamHub) -> None:
    sink = Recorder()
    attachment = hub.attach("e", sink)
    hub.publish("e", "token")
    await soon(hub.sinks.flush("e"))
    assert hub.sinks.attached("e") == [attachment]
    assert hub.detach("e", sink)
    assert hub.sinks.attached("e") == []
    hub.publish("e", "token")
    await soon(attachment.wait())
    assert sink.calls == ["send", "closed detached", "aclose"]
    assert seqs(sink.got) == [1, 2]
    for unknown in (sink, "recorder", "nobody"):
        assert not hub.detach("e", unknown)
        with pytest.raises(BadRequestError, match="is attached"):
            hub.detach("e", unknown, strict=True)
    assert not hub.detach("nowhere", "nobody")


async def test_another_sink_of_the_same_name_is_not_detached_in_its_place(hub: StreamHub) -> None:
    attachment = hub.attach("e", Recorder())
    assert not hub.detach("e", Recorder())
    assert attachment.active
    assert hub.detach("e", "recorder")


async def test_a_sink_may_detach_itself_while_it_is_called(hub: StreamHub) -> None:
    def leave(updates: Sequence[StreamUpdate]) -> None:
        hub.detach("e", "recorder")

    sink = Recorder(before=leave)
    attachment = hub.attach("e", sink)
    publish_many(hub, "e", range(3))
    await soon(attachment.wait())
    assert (seqs(sink.got), sink.calls) == (upto(4), ["send", "closed detached", "aclose"])
    assert attachment.delivered == 4


async def test_detaching_ends_a_call_that_hangs(hub: StreamHub) -> None:
    sink = Recorder(before=hanging())
    attachment = hub.attach("e", sink, send_timeout=float("inf"))
    hub.publish("e", "token")
    await until(lambda: bool(sink.calls))
    attachment.detach()
    attachment.detach()
    await soon(attachment.wait())
    assert sink.calls == ["send", "closed detached", "aclose"]
    assert attachment.delivered == 0


async def test_a_sink_that_was_interrupted_is_closed_whatever_it_raises_then(hub: StreamHub) -> None:
    class Bad(Recorder):
        async def closed(self, reason: CloseReason) -> None:
            await super().closed(reason)
            raise asyncio.CancelledError

    sink = Bad(before=hanging())
    attachment = hub.attach("e", sink)
    hub.publish("e", "token")
    await until(lambda: bool(sink.calls))
    attachment.detach()
    await soon(attachment.wait())
    assert sink.ending == ["closed detached", "aclose"]


async def test_detaching_ends_a_pause(hub: StreamHub) -> None:
    sink, slow = Recorder(), Recorder("slow", failing())
    attached = [
        hub.attach("e", sink, policy=SendPolicy(interval=3_600)),
        hub.attach("e", slow, policy=SendPolicy(attempts=99)),
    ]
    hub.publish("e", "token")
    await until(lambda: bool(sink.calls and slow.calls))
    for attachment in attached:
        attachment.detach()
        await soon(attachment.wait())
    assert sink.ending == slow.ending == ["closed detached", "aclose"]


@pytest.mark.row("AOS-11")
async def test_sinks_count_as_readers_of_their_execution(make_hub: MakeHub) -> None:
    hub = make_hub(max_subscribers_per_execution=2)
    first = hub.attach("e", Recorder("one"))
    hub.attach("e", Recorder("two"))
    with pytest.raises(SubscriberLimitError):
        hub.attach("e", Recorder("three"))
    hub.attach("f", Recorder("three"))
    first.detach()
    hub.attach("e", Recorder("three"))


@pytest.mark.row("FLOW-D2")
async def test_where_no_more_fit_one_may_be_replaced_and_stays_if_the_new_one_is_refused(make_hub: MakeHub) -> None:
    hub = make_hub(max_subscribers_per_execution=1)
    old, new = Recorder(), Recorder()
    hub.attach("e", old)
    with pytest.raises(BadPositionError):
        hub.attach("e", new, replace=True, after="nowhere")
    with pytest.raises(SubscriberLimitError):
        hub.attach("e", Recorder("other"), replace=True)
    assert [attachment.sink for attachment in hub.sinks.attached("e")] == [old]
    hub.attach("e", new, replace=True)
    assert [attachment.sink for attachment in hub.sinks.attached("e")] == [new]


@pytest.mark.row("AOS-17")
async def test_a_sink_that_is_not_active_is_not_sent_to_and_detached(hub: StreamHub) -> None:
    sink = Recorder()
    attachment = hub.attach("e", sink)
    hub.publish("e", "token")
    await soon(hub.sinks.flush("e"))
    sink.active = False
    hub.publish("e", "token")
    await soon(attachment.wait())
    assert (seqs(sink.got), sink.ending) == ([1, 2], ["closed inactive", "aclose"])
    assert attachment.reason == "inactive"


async def test_a_sink_that_cannot_say_whether_it_is_active_is_detached(
    hub: StreamHub, caplog: pytest.LogCaptureFixture
) -> None:
    class Confused(Recorder):
        def is_active(self) -> bool:
            raise ValueError("who knows")

    attachment = hub.attach("e", Confused())
    hub.publish("e", "token")
    await soon(attachment.wait())
    assert attachment.reason == "inactive"
    assert [line for line in caplog.messages if "who knows" in line]


async def test_a_sink_that_follows_goes_on_with_the_next_run(hub: StreamHub) -> None:
    once, always = Recorder("once"), Recorder("always")
    first = hub.attach("e", once)
    hub.attach("e", always, follow=True)
    for _ in range(2):
        hub.open("e")
        await soon(hub.sinks.flush("e"))
        hub.publish("e", "token")
        await hub.close("e")
    await soon(first.wait())
    await soon(hub.sinks.flush("e"))
    assert (seqs(once.got), seqs(always.got)) == (upto(3), upto(6))
    await hub.aclose()
    assert always.ending == ["closed hub_closed", "aclose"]


async def test_a_gap_is_an_update(make_hub: MakeHub) -> None:
    hub = make_hub(max_updates=2)
    publish_many(hub, "e", range(5))
    sink = Recorder()
    attachment = hub.attach("e", sink)
    await soon(hub.sinks.flush("e"))
    assert types(sink.got) == ["gap", "token", "token"]
    assert sink.got[0].data == {"from": 1, "to": 4, "reason": "evicted"}
    assert attachment.delivered == 3


async def test_a_shared_sink_serves_several_executions_and_is_left_open(hub: StreamHub) -> None:
    sink = Recorder()
    for execution_id in ("e", "f"):
        hub.attach(execution_id, sink, shared=True)
    with pytest.raises(BadRequestError, match="shared=True"):
        hub.attach("g", sink)
    publish_many(hub, "e", [1])
    publish_many(hub, "f", [2])
    for execution_id in ("e", "f"):
        attachment = hub.sinks.attached(execution_id)[0]
        await hub.close(execution_id)
        await soon(attachment.wait())
    assert len(sink.got) == 6
    assert sink.ending == []
    hub.attach("g", sink)  # it is free again
    with pytest.raises(BadRequestError, match="shared=True"):
        hub.attach("h", sink, shared=True)
    await hub.aclose()
    assert sink.ending == ["closed hub_closed", "aclose"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sink": object()}, "is no sink"),
        ({"sink": Recorder}, "is no sink"),
        ({"sink": Recorder("")}, "the id of a sink"),
        ({"sink": Recorder(cast("Any", 3))}, "the id of a sink"),
        ({"on_error": "ignore"}, "on_error is one of"),
        ({"send_timeout": 0}, "send_timeout"),
        ({"send_timeout": float("nan")}, "send_timeout"),
        ({"execution_id": "a b"}, "execution"),
        ({"types": "token"}, "write \\['token'\\]"),
    ],
)
async def test_what_cannot_be_used_is_refused(hub: StreamHub, change: dict[str, Any], message: str) -> None:
    chosen: dict[str, Any] = {"execution_id": "e", "sink": Recorder(), **change}
    with pytest.raises(BadRequestError, match=message):
        hub.attach(**chosen)
    assert hub.statistics().sinks == hub.statistics().subscriptions == 0


@pytest.mark.parametrize(
    "change",
    [{"batch_size": 0}, {"interval": -1}, {"interval": float("inf")}, {"timeout": 0}, {"attempts": 0}],
    ids=repr,
)
def test_a_policy_that_cannot_be_used_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        SendPolicy(**change)


async def test_batches_are_as_large_as_the_policy_says(hub: StreamHub) -> None:
    sizes: list[int] = []

    def note(updates: Sequence[StreamUpdate]) -> None:
        sizes.append(len(updates))

    publish_many(hub, "e", range(9))
    attachment = hub.attach("e", Recorder(before=note), policy=SendPolicy(batch_size=4))
    await hub.close("e")
    await soon(attachment.wait())
    assert sizes == [4, 4, 3]


async def test_what_follows_closely_shares_a_call_and_flushing_does_not_wait_for_it(hub: StreamHub) -> None:
    sizes: list[int] = []

    def note(updates: Sequence[StreamUpdate]) -> None:
        sizes.append(len(updates))

    hub.attach("e", Recorder(before=note), policy=SendPolicy(interval=3_600))
    hub.open("e")
    await until(lambda: sizes == [1])
    publish_many(hub, "e", range(9))
    for _ in range(10):
        await asyncio.sleep(0)
    assert sizes == [1]
    await soon(hub.sinks.flush("e"))
    assert sizes == [1, 9]


class _YoungLoop(asyncio.SelectorEventLoop):
    """A loop whose clock begins at 0, as on a machine that has just started."""

    def __init__(self) -> None:
        super().__init__()
        self._began = super().time()

    def time(self) -> float:
        return super().time() - self._began


def test_the_first_updates_come_at_once_also_right_after_the_machine_has_started() -> None:
    async def attach() -> None:
        hub, sink = StreamHub(), Recorder()
        hub.attach("e", sink, policy=SendPolicy(interval=60.0))
        publish_many(hub, "e", range(2))
        await soon(sink.came.wait())
        await hub.aclose()

    with asyncio.Runner(loop_factory=_YoungLoop) as runner:
        runner.run(attach())


async def test_flushing_while_a_sink_fails_is_not_forgotten_until_it_has_succeeded(hub: StreamHub) -> None:
    sizes: list[int] = []

    def fail_once(updates: Sequence[StreamUpdate]) -> None:
        sizes.append(len(updates))
        if len(sizes) == 1:
            raise OSError("away")

    policy = SendPolicy(interval=3_600, attempts=2, backoff=Backoff(delay=0.1, jitter=0))
    hub.open("e")
    hub.attach("e", Recorder(before=fail_once), policy=policy)
    await until(lambda: sizes == [1])
    hub.publish("e", "token")
    await soon(hub.sinks.flush("e"))
    assert sizes == [1, 1, 1]


async def test_flushing_waits_for_what_filters_leave_out_too_and_not_for_what_is_over(hub: StreamHub) -> None:
    await soon(hub.sinks.flush("nowhere"))
    sink = Recorder()
    hub.attach("e", sink, types=["never"])
    await soon(hub.sinks.flush("e"))
    publish_many(hub, "e", range(9))
    await soon(hub.sinks.flush("e"))
    assert sink.got == []
    await hub.close("e")
    await soon(hub.sinks.flush("e"))


@pytest.mark.row("AOS-23", "FLOW-14")
async def test_closing_the_hub_serves_and_closes_every_sink_whatever_one_of_them_does(
    hub: StreamHub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("lg_streaming.hub.attachments._FINISH_TIMEOUT", 0.3)
    monkeypatch.setattr("lg_streaming.hub.attachments._STOP_TIMEOUT", 0.1)

    class Stuck(Recorder):
        async def aclose(self) -> None:
            await super().aclose()
            await asyncio.get_running_loop().create_future()

    good, bad = Recorder("good"), Recorder("bad", failing())
    slow, stuck = Recorder("slow", hanging()), Stuck("stuck")
    for sink in (slow, stuck, bad, good):
        hub.attach("e", sink, policy=SendPolicy(interval=3_600, timeout=float("inf")))
    await soon(hub.sinks.flush("f"))
    publish_many(hub, "e", range(3))
    await soon(hub.aclose())
    assert seqs(good.got) == seqs(stuck.got) == upto(4)
    assert good.ending == bad.ending == slow.ending == stuck.ending == ["closed hub_closed", "aclose"]
    assert [line for line in caplog.messages if "'stuck'" in line and "is dropped" in line]
    with pytest.raises(HubClosedError):
        hub.attach("e", Recorder())
    await hub.aclose()
    assert hub.statistics().sinks == 0


async def test_a_sink_that_holds_up_the_end_of_the_hub_holds_up_no_other_reader(
    hub: StreamHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lg_streaming.hub.attachments._FINISH_TIMEOUT", 0.5)
    sink = Recorder(before=hanging())
    hub.attach("e", sink)
    hub.publish("e", "token")
    await until(lambda: bool(sink.calls))
    reading = asyncio.create_task(collect(hub.subscribe("e")))
    closing = asyncio.create_task(hub.aclose())
    assert seqs(await soon(reading)) == [1, 2]
    assert not closing.done()
    await soon(closing)


async def test_the_late_end_of_a_replaced_sink_does_not_take_the_new_one_along(hub: StreamHub) -> None:
    old = hub.attach("e", Recorder())
    new = hub.attach("e", Recorder(), replace=True)
    old._on_stop(old)  # pyright: ignore[reportPrivateUsage] (as when it ends by itself in another thread)
    assert hub.sinks.attached("e") == [new]


@pytest.mark.row("PYEV-16", "PYEV-D8")
def test_without_a_loop_sinks_share_one_thread_that_ends_with_them() -> None:
    hub = StreamHub()
    got: dict[str, list[StreamUpdate]] = {"a": [], "b": []}
    threads: set[threading.Thread] = set()

    class Plain:
        def __init__(self, id: str) -> None:
            self.id = id
            self.reason = ""

        async def send(self, updates: Sequence[StreamUpdate]) -> None:
            got[self.id] += updates
            threads.add(threading.current_thread())

        async def closed(self, reason: CloseReason) -> None:
            self.reason = reason

        def is_active(self) -> bool:
            return True

    sinks = [Plain("a"), Plain("b")]
    for _ in range(2):
        hub.open("e")
        publish_many(hub, "e", range(100))
        attachments = [hub.attach("e", sink) for sink in sinks]
        with pytest.raises(TimeoutError, match="still attached"):
            attachments[0].join(0.01)
        asyncio.run(hub.close("e"))
        for attachment in attachments:
            attachment.join(10)
    assert seqs(got["a"]) == seqs(got["b"])
    assert set(seqs(got["a"])) == set(upto(204))
    assert [sink.reason for sink in sinks] == ["completed", "completed"]
    assert {thread.name for thread in threads} == {"lg-streaming-delivery"}
    assert threading.current_thread() not in threads
    asyncio.run(hub.aclose())


def test_sinks_on_a_loop_that_ends_are_closed() -> None:
    hub = StreamHub()
    sinks = [Recorder("one"), Recorder("hanging", hanging())]

    async def program() -> None:
        for sink in sinks:
            hub.attach("e", sink)
        publish_many(hub, "e", range(3))
        await until(lambda: all(sink.calls for sink in sinks))

    asyncio.run(program())
    assert [sink.ending for sink in sinks] == [["closed detached", "aclose"]] * 2
    assert hub.statistics().sinks == 0
    asyncio.run(hub.aclose())


def test_a_hub_can_be_closed_from_another_loop_than_its_sinks() -> None:
    hub = StreamHub()
    sink = Recorder()
    attachment = hub.attach("e", sink)
    publish_many(hub, "e", range(3))
    asyncio.run(hub.aclose())
    attachment.join(0)
    assert seqs(sink.got) == upto(4)
    assert sink.ending == ["closed hub_closed", "aclose"]


@pytest.mark.row("AOS-D10")
@pytest.mark.usefixtures("busy_threads")
async def test_closing_races_with_publishing_and_detaching_without_a_hole(hub: StreamHub) -> None:
    sinks = [Recorder(str(number)) for number in range(4)]
    attachments = [hub.attach("e", sink, follow=True) for sink in sinks]
    hub.open("e")

    def leave() -> None:
        attachments[0].detach()

    def close() -> None:
        asyncio.run(hub.close("e"))

    await Threads(*[lambda: publish_many(hub, "e", range(300))] * 3, leave, close).start().join()
    await soon(hub.sinks.flush("e"))
    state = await hub.describe("e")
    assert state is not None
    for sink in sinks[1:]:
        assert seqs(sink.got) == upto(state.head)
    assert seqs(sinks[0].got) == upto(len(sinks[0].got))
    assert attachments[0].reason == "detached"


@pytest.mark.usefixtures("busy_threads")
async def test_many_threads_attach_and_detach_at_once(hub: StreamHub) -> None:
    hub.open("e")

    def come_and_go() -> None:
        for _ in range(50):
            attachment = hub.attach("e", Recorder(str(threading.get_ident())), follow=True)
            hub.publish("e", "token")
            attachment.detach()
            attachment.join(10)

    await Threads(*[come_and_go] * 4).start().join()
    await until(lambda: hub.statistics().sinks == 0)
    assert hub.statistics().subscriptions == 0


async def test_a_log_that_is_away_for_a_while_costs_a_sink_nothing(
    make_hub: MakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lg_streaming.hub.carry.LOG_BACKOFF", Backoff(delay=0.01, max_delay=0.01))
    log = FaultyLog()
    hub = make_hub(log=log)
    sink = Recorder()
    attachment = hub.attach("e", sink, types=["token"])
    publish_many(hub, "e", range(3))
    await soon(hub.sinks.flush("e"))
    log.away = True
    hub.publish("e", "token", 3)
    await asyncio.sleep(0.05)
    log.away = False
    await hub.close("e")
    await soon(attachment.wait())
    assert contents(sink.got) == [0, 1, 2, 3]
    assert sink.ending == ["closed completed", "aclose"]


async def test_a_thousand_executions_leave_nothing(hub: StreamHub) -> None:
    async def one(number: int) -> list[StreamUpdate]:
        execution_id, sink = f"e{number}", Recorder()
        attachment = hub.attach(execution_id, sink)
        publish_many(hub, execution_id, range(5))
        await hub.close(execution_id)
        await attachment.wait()
        assert sink.ending == ["closed completed", "aclose"]
        return sink.got

    for first in range(0, 1_000, 100):
        everything = await soon(asyncio.gather(*[one(number) for number in range(first, first + 100)]))
        assert [seqs(got) for got in everything] == [upto(7)] * 100
    statistics = hub.statistics()
    assert (statistics.sinks, statistics.subscriptions, statistics.sink_errors) == (0, 0, 0)
    assert hub.sinks.by_execution == hub.sinks.by_sink == {}


async def test_waiting_may_be_given_up(hub: StreamHub) -> None:
    attachment = hub.attach("e", Recorder())

    async def wait() -> None:
        await attachment.wait()

    waits: list[Awaitable[None]] = []
    for _ in range(2):
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        waits.append(task)
    await asyncio.gather(*waits, return_exceptions=True)
    hub.publish("e", "token")
    await hub.close("e")
    await soon(attachment.wait())


def test_a_sink_in_the_thread_without_a_loop_may_attach_another_which_lasts_longer() -> None:
    hub = StreamHub()
    second = Recorder("second")
    first = Recorder("first", lambda _: hub.attach("f", second) and None)
    attachment = hub.attach("e", first)
    hub.open("f")
    hub.open("e")
    asyncio.run(hub.close("e"))
    attachment.join(10)
    (other,) = hub.sinks.attached("f")
    hub.emit("f", "late", 1)
    asyncio.run(hub.close("f"))
    other.join(10)
    assert contents(second.got) == [1]
    assert second.calls[-2:] == ["closed completed", "aclose"]
    asyncio.run(hub.aclose())


def test_what_a_sink_leaves_behind_in_the_thread_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    cancelled = threading.Event()
    begun: list[asyncio.Task[None]] = []

    async def forever() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()

    async def begin(_: Sequence[StreamUpdate]) -> None:
        begun.append(asyncio.create_task(forever()))
        await asyncio.sleep(0)

    hub = StreamHub()
    attachment = hub.attach("e", Recorder(before=begin))
    hub.open("e")
    asyncio.run(hub.close("e"))
    attachment.join(10)
    assert cancelled.wait(10)
    asyncio.run(hub.aclose())
    assert begun[0].cancelled()
    assert not caplog.records


async def test_a_sink_with_a_long_way_to_go_lets_others_have_their_turn(hub: StreamHub) -> None:
    publish_many(hub, "e", range(5_000))
    turns: list[int] = []

    async def others() -> None:
        while True:
            turns.append(len(sink.got))
            await asyncio.sleep(0)

    sink = Recorder()
    hub.attach("e", sink)
    other = asyncio.create_task(others())
    await soon(hub.sinks.flush("e"))
    other.cancel()
    assert {500, 1_000, 4_500} <= set(turns)
