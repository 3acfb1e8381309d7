"""A reader that acknowledges gets again what it has not acknowledged, and nothing else."""

from dataclasses import dataclass

import pytest

from lg_streaming.errors import BadPositionError
from lg_streaming.events import Position
from lg_streaming.gateway.delivery.acks import AckTracker
from lg_streaming.hub import StreamHub
from lg_streaming.settings import StreamingSettings


@dataclass
class Time:
    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def acks(time: Time) -> AckTracker:
    """The account of a reader that resumed after its 5th update."""
    return AckTracker(at(5), timeout=10.0, clock=time)


def at(seq: int, epoch: str = "k3f9") -> Position:
    return Position(epoch, seq)


def test_nothing_is_due_while_nothing_was_sent(acks: AckTracker, time: Time) -> None:
    assert (acks.outstanding, acks.wait, acks.due(), acks.furthest) == (0, None, None, 5)
    time.now += 1_000
    assert acks.due() is None


def test_what_is_not_acknowledged_in_time_is_due(acks: AckTracker, time: Time) -> None:
    acks.sent(at(8))
    acks.sent(at(9))
    assert (acks.outstanding, acks.wait, acks.furthest) == (4, 10.0, 9)
    acks.acked(at(7))
    time.now += 9.5
    assert (acks.outstanding, acks.wait, acks.due()) == (2, 0.5, None)
    time.now += 0.5
    assert acks.due() == 7
    assert acks.due() is None


def test_a_reader_that_acknowledges_everything_gets_nothing_again(acks: AckTracker, time: Time) -> None:
    for seq in range(6, 50):
        acks.sent(at(seq))
        time.now += 9
        acks.acked(at(seq))
        assert (acks.outstanding, acks.wait, acks.due()) == (0, None, None)
    time.now += 1_000
    acks.sent(at(50))
    assert acks.wait == 10.0


def test_any_progress_gives_more_time_and_new_updates_do_not(acks: AckTracker, time: Time) -> None:
    acks.sent(at(8))
    time.now += 6
    acks.sent(at(9))
    assert acks.wait == 4.0
    acks.acked(at(6))
    assert acks.wait == 10.0


def test_each_silence_is_twice_as_long_up_to_a_minute(acks: AckTracker, time: Time) -> None:
    waits: list[float | None] = []
    for _ in range(6):
        acks.sent(at(9))
        waits.append(acks.wait)
        time.now += acks.wait or 0.0
        assert acks.due() == 5
    assert waits == [10.0, 20.0, 40.0, 60.0, 60.0, 60.0]
    acks.acked(at(6))
    acks.sent(at(9))
    assert acks.wait == 10.0


def test_a_patience_over_a_minute_stays_what_it_is(time: Time) -> None:
    acks = AckTracker(None, timeout=90.0, clock=time)
    for _ in range(3):
        acks.sent(at(1))
        assert acks.wait == 90.0
        time.now += 90.0
        assert acks.due() == 0


def test_a_silence_of_any_number_of_times_is_counted(acks: AckTracker, time: Time) -> None:
    for _ in range(2_000):
        acks.sent(at(6))
        time.now += 60.0
        assert acks.due() == 5


def test_what_is_due_counts_from_when_it_has_left_again(acks: AckTracker, time: Time) -> None:
    acks.sent(at(9))
    time.now += 10
    assert acks.due() == 5
    time.now += 1_000
    assert (acks.wait, acks.due()) == (None, None)
    acks.sent(at(7))
    time.now += 1_000
    assert (acks.wait, acks.due()) == (None, None)
    acks.sent(at(9))
    assert (acks.wait, acks.furthest) == (20.0, 9)


def test_a_late_acknowledgement_ends_the_repetition(acks: AckTracker, time: Time) -> None:
    acks.sent(at(9))
    time.now += 10
    assert acks.due() == 5
    acks.acked(at(9))
    acks.sent(at(7))
    assert (acks.outstanding, acks.wait, acks.due()) == (0, None, None)


@pytest.mark.parametrize("position", [at(4), at(5), at(0), at(7, "other"), at(1_000, "other")])
def test_old_and_foreign_positions_change_nothing(acks: AckTracker, time: Time, position: Position) -> None:
    acks.sent(at(9))
    time.now += 3
    acks.acked(position)
    assert (acks.outstanding, acks.wait) == (4, 7.0)


def test_what_was_not_sent_cannot_be_acknowledged(acks: AckTracker) -> None:
    with pytest.raises(BadPositionError):
        acks.acked(at(6))
    acks.sent(at(9))
    with pytest.raises(BadPositionError):
        acks.acked(at(10))
    acks.acked(at(9))


def test_a_new_epoch_is_a_new_account(acks: AckTracker, time: Time) -> None:
    acks.sent(at(900))
    time.now += 10
    acks.due()
    acks.sent(at(3, "new"))
    assert (acks.outstanding, acks.wait, acks.furthest) == (3, 10.0, 3)
    acks.acked(at(900))
    assert acks.outstanding == 3
    time.now += 10
    assert acks.due() == 0


async def test_a_subscription_goes_back_to_what_is_due(time: Time) -> None:
    hub = StreamHub(StreamingSettings())
    try:
        subscription = hub.subscribe("e", types=["token"])
        acks = AckTracker(subscription.position, clock=time)
        for index in range(6):
            hub.publish("e", "token", index)
            hub.publish("e", "note", index)
        got: list[int] = []
        for _ in range(2):
            while (page := await subscription.poll(3)) is not None:
                got += [record.seq for record in page.records]
                acks.sent(page.records[-1].position)
                if page.records[-1].seq == 6:
                    acks.acked(page.records[-1].position)
            time.now += 10
            if (seq := acks.due()) is not None:
                subscription.rewind(seq)
        assert got == [2, 4, 6, 8, 10, 12, 8, 10, 12]
    finally:
        await hub.aclose()
