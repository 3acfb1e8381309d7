"""A sink that is slow, hangs or fails, and no effect on the others."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lg_streaming import StreamUpdate
from lg_streaming.backoff import Backoff
from lg_streaming.errors import CODES, SinkError, SinkRejectedError
from lg_streaming.hub import SendPolicy, Sink, StreamHub
from tests.hub.helpers import MakeHub, contents, publish_many, seqs, soon, until, upto
from tests.sinks.helpers import Recorder, failing, hanging

AT_ONCE = Backoff(delay=0)


def fails_at(*values: object, error: type[Exception] = ValueError) -> Any:
    """Fails a call that has one of the values."""

    def before(updates: Sequence[StreamUpdate]) -> None:
        if bad := [update.data for update in updates if update.data in values]:
            raise error(f"no {bad}")

    return before


@pytest.mark.row("AOS-06", "AOS-07", "AOS-D2")
async def test_by_default_a_failure_is_logged_and_the_sink_stays_and_the_others_get_all(
    hub: StreamHub, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = Recorder("bad", fails_at(3)), Recorder("good")
    attachments = [hub.attach("e", sink, policy=SendPolicy(batch_size=1)) for sink in (bad, good)]
    publish_many(hub, "e", range(6))
    await hub.close("e")
    for attachment in attachments:
        await soon(attachment.wait())
    assert seqs(good.got) == upto(8)
    assert contents(bad.got) == [0, 1, 2, 4, 5]
    assert [(one.delivered, one.failed, one.errors) for one in attachments] == [(7, 1, 1), (8, 0, 0)]
    assert bad.ending == ["closed completed", "aclose"]
    assert hub.statistics().sink_errors == 1
    line = next(record for record in caplog.records if "no [3]" in record.getMessage())
    assert "sink 'bad' of execution 'e' did not take 1 updates; they are left out" in line.getMessage()
    assert line.levelno == logging.WARNING
    assert line.exc_info, "where the sink raised is told"
    await soon(hub.sinks.flush("e"))


@pytest.mark.row("AOS-06", "AOS-08")
async def test_a_sink_that_is_to_be_detached_when_it_fails(hub: StreamHub) -> None:
    bad, good = Recorder("bad", fails_at(3)), Recorder("good")
    attachment = hub.attach("e", bad, on_error="detach", policy=SendPolicy(batch_size=1))
    hub.attach("e", good)
    publish_many(hub, "e", range(6))
    await soon(attachment.wait())
    assert [one.sink for one in hub.sinks.attached("e")] == [good]
    await soon(hub.sinks.flush("e"))
    assert seqs(good.got) == upto(7)
    assert contents(bad.got) == [0, 1, 2]
    assert attachment.reason == "error"
    assert attachment.position is not None
    assert attachment.position.seq == 4
    assert bad.ending == ["closed error", "aclose"]


@pytest.mark.row("AOS-06", "AOS-09", "AOS-D1", "AOS-25")
async def test_a_failure_is_raised_where_its_owner_waits_after_the_others_were_served(hub: StreamHub) -> None:
    cause = ValueError("no")
    bad, worse, good = Recorder("bad", failing(cause)), Recorder("worse", failing()), Recorder("good")
    attachments = [hub.attach("e", sink, on_error="raise") for sink in (bad, worse, good)]
    publish_many(hub, "e", range(6))
    with pytest.raises(SinkError) as raised:
        await soon(hub.sinks.flush("e"))
    assert seqs(good.got) == upto(7)
    error = raised.value
    assert (error.execution_id, error.sink_id, error.__cause__) == ("e", "bad", cause)
    assert "'bad'" in str(error)
    assert "no" in str(error)
    assert (error.code, error.name, error.code in CODES) == (5040, "sink_failed", True)
    assert len(error.__notes__) == 1
    assert "'worse'" in error.__notes__[0]
    await soon(hub.sinks.flush("e"))  # it was notified
    for attachment in attachments[:2]:
        with pytest.raises(SinkError):
            await soon(attachment.wait())
    assert bad.ending == worse.ending == ["closed error", "aclose"]
    await hub.close("e")
    await soon(attachments[2].wait())


def test_a_failure_is_raised_without_a_loop_too() -> None:
    hub = StreamHub()
    attachment = hub.attach("e", Recorder(before=failing()), on_error="raise")
    hub.publish("e", "token")
    with pytest.raises(SinkError, match="recorder"):
        attachment.join(10)
    asyncio.run(hub.aclose())


async def test_failures_that_nobody_asks_for_are_not_kept_for_ever(
    hub: StreamHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lg_streaming.hub.attachments._MAX_UNREPORTED", 3)
    for number in range(5):
        attachment = hub.attach(f"e{number}", Recorder(before=failing()), on_error="raise")
        hub.publish(f"e{number}", "token")
        with pytest.raises(SinkError):
            await soon(attachment.wait())
    await hub.sinks.flush("e0")
    with pytest.raises(SinkError):
        await hub.sinks.flush("e4")


@pytest.mark.row("AOS-D4", "PYEV-D4")
async def test_a_sink_that_hangs_delays_nobody_and_has_failed_after_its_time(hub: StreamHub) -> None:
    hung, slow, quick = Recorder("hung", hanging()), Recorder("slow"), Recorder("quick")
    attached = [
        hub.attach("e", hung, send_timeout=0.05, on_error="detach"),
        hub.attach("e", quick),
        hub.attach("e", slow),
    ]
    publish_many(hub, "e", range(100))
    await until(lambda: len(quick.got) == 101)
    assert len(hub.sinks.attached("e")) == 3, "the others were served before it was given up"
    await soon(attached[0].wait())
    assert hung.ending == ["closed error", "aclose"]
    assert attached[0].failed == 101
    await hub.close("e")
    await soon(attached[2].wait())
    assert seqs(slow.got) == upto(102)


async def test_a_sink_is_never_called_twice_at_once(hub: StreamHub) -> None:
    inside = 0

    async def slowly(updates: Sequence[StreamUpdate]) -> None:
        nonlocal inside
        inside += 1
        assert inside == 1
        await asyncio.sleep(0.001)
        inside -= 1

    sink = Recorder(before=slowly)
    attachment = hub.attach("e", sink, policy=SendPolicy(batch_size=3, interval=0))
    for number in range(30):
        hub.publish("e", "token", number)
        await asyncio.sleep(0)
    await hub.close("e")
    await soon(attachment.wait())
    assert seqs(sink.got) == upto(32)
    assert attachment.errors == 0


async def test_a_batch_is_sent_again_as_often_as_the_policy_says(hub: StreamHub) -> None:
    tries: list[list[int]] = []

    def twice(updates: Sequence[StreamUpdate]) -> None:
        tries.append(seqs(updates))
        if len(tries) in {1, 2, 4, 5, 6}:
            raise OSError("away")

    hub.publish("e", "token")
    sink = Recorder(before=twice)
    attachment = hub.attach("e", sink, policy=SendPolicy(attempts=3, backoff=AT_ONCE))
    await soon(hub.sinks.flush("e"))
    assert (tries, seqs(sink.got)) == ([[1, 2]] * 3, [1, 2])
    hub.publish("e", "token")
    await soon(hub.sinks.flush("e"))
    assert tries[3:] == [[3]] * 3
    assert (attachment.delivered, attachment.failed, attachment.errors) == (2, 1, 5)


@pytest.mark.parametrize(
    ("error", "least"),
    [(SinkError("later", retry_after=0.08), 0.08), (OSError("away"), 0.05)],
    ids=["asks for more", "backoff"],
)
async def test_pauses_are_the_backoffs_or_longer_where_the_sink_asks_for_it(
    hub: StreamHub, error: Exception, least: float
) -> None:
    loop = asyncio.get_running_loop()
    times: list[float] = []

    def once(updates: Sequence[StreamUpdate]) -> None:
        times.append(loop.time())
        if len(times) == 1:
            raise error

    hub.publish("e", "token")
    attachment = hub.attach(
        "e", Recorder(before=once), policy=SendPolicy(attempts=2, backoff=Backoff(delay=0.05, jitter=0))
    )
    await soon(hub.sinks.flush("e"))
    assert least <= times[1] - times[0] < least + 2
    assert attachment.errors == 1


@pytest.mark.parametrize("taken", [0, 1, 2])
async def test_where_a_sink_fails_behind_a_gap_the_gap_does_not_come_again(make_hub: MakeHub, taken: int) -> None:
    hub = make_hub(max_updates=2)
    publish_many(hub, "e", range(5))
    sink = Moody([taken])
    attachment = hub.attach("e", sink)
    await soon(hub.sinks.flush("e"))
    came = ["gap", 5, 6]
    del came[taken]  # what failed
    assert [update.type if update.type == "gap" else update.metadata.sequence_number for update in sink.got] == came
    assert (attachment.delivered, attachment.failed) == (2, 1)


async def test_what_a_sink_refuses_is_not_sent_again(hub: StreamHub) -> None:
    sink = Recorder(before=fails_at(1, error=SinkRejectedError))
    attachment = hub.attach("e", sink, policy=SendPolicy(batch_size=1, attempts=5, backoff=AT_ONCE))
    publish_many(hub, "e", range(3))
    await soon(hub.sinks.flush("e"))
    assert contents(sink.got) == [0, 2]
    assert (attachment.errors, attachment.failed) == (1, 1)


@pytest.mark.parametrize("how", [asyncio.CancelledError(), SystemExit(3), BaseException("strange")], ids=repr)
async def test_whatever_a_sink_raises_is_its_own_failure(hub: StreamHub, how: BaseException) -> None:
    bad, good = Recorder("bad", failing(how)), Recorder("good")
    hub.attach("e", bad)
    hub.attach("e", good)
    publish_many(hub, "e", range(3))
    await soon(hub.sinks.flush("e"))
    assert seqs(good.got) == upto(4)
    assert bad.got == []
    assert len(hub.sinks.attached("e")) == 2


async def test_a_sink_whose_send_is_no_coroutine_has_failed(hub: StreamHub) -> None:
    class Plain(Recorder):
        def send(self, updates: Sequence[StreamUpdate]) -> None:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
            return None

    attachment = hub.attach("e", cast("Sink", Plain()), on_error="raise")
    hub.publish("e", "token")
    with pytest.raises(SinkError, match="await"):
        await soon(attachment.wait())


async def test_a_sink_that_fails_for_long_is_logged_ever_more_rarely(
    hub: StreamHub, caplog: pytest.LogCaptureFixture
) -> None:
    hub.attach("e", Recorder(before=failing()), policy=SendPolicy(batch_size=1))
    publish_many(hub, "e", range(99))
    await soon(hub.sinks.flush("e"))
    assert len(caplog.records) == 7  # of 100: 1, 2, 4, 8, 16, 32, 64
    assert len([record for record in caplog.records if record.exc_info]) == 1


class Moody(Recorder):
    """Each call does what is next: take all, fail, take some and fail, refuse."""

    def __init__(self, moods: list[int | str | None]) -> None:
        super().__init__()
        self.moods = moods
        self.asked: list[int] = []

    async def send(self, updates: Sequence[StreamUpdate]) -> None:
        self.asked += seqs(updates)
        mood = self.moods.pop() if self.moods else None
        if mood is None:
            self.got += updates
        elif mood == "fail":
            raise OSError(mood)
        elif isinstance(mood, str):
            raise SinkRejectedError(mood)
        else:
            self.got += updates[:mood]
            raise SinkError("some", sent=min(mood, len(updates)))


MOODS = st.lists(st.one_of(st.none(), st.integers(0, 6), st.sampled_from(["fail", "refuse"])), max_size=30)


@given(moods=MOODS, count=st.integers(0, 20), size=st.integers(1, 6), attempts=st.integers(1, 3))
def test_however_a_sink_fails_each_update_is_taken_once_or_counted_as_failed(
    moods: list[int | str | None], count: int, size: int, attempts: int
) -> None:
    async def run() -> None:
        hub = StreamHub()
        sink = Moody(moods)
        publish_many(hub, "e", range(count))
        await hub.close("e")
        head = 0 if count == 0 else count + 2
        policy = SendPolicy(batch_size=size, interval=0, attempts=attempts, backoff=AT_ONCE)
        attachment = hub.attach("e", sink, policy=policy)
        await soon(hub.sinks.flush("e"))
        taken = seqs(sink.got)
        assert taken == sorted(set(taken)), "in order, none twice"
        assert (attachment.delivered, attachment.delivered + attachment.failed) == (len(taken), head)
        assert set(sink.asked) == set(upto(head)), "each was tried"
        await hub.aclose()

    logging.disable(logging.WARNING)
    try:
        asyncio.run(run())
    finally:
        logging.disable(logging.NOTSET)
