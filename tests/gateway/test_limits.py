"""Counting what callers use."""
# pyright: reportPrivateUsage=false

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lg_streaming.errors import ConnectRateError, MessageRateError, ServerFullError, TooManyConnectionsError
from lg_streaming.frequency import Frequency
from lg_streaming.gateway.limits import fleet_limits
from lg_streaming.gateway.limits.fleet_limits import FleetLimits
from lg_streaming.gateway.limits.rates import ConnectionCounter, Lease, RateLimiter, Requests, Windows, address_key
from lg_streaming.log.fleet import CountLimit, RateLimit
from lg_streaming.settings import LimitSettings
from tests.support.memory_fleet import MemoryFleet, Network


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("testclient", "testclient", True),
        (None, "", True),
    ],
)
def test_what_counts_as_one_address(one: str | None, other: str, same: bool) -> None:
    assert (address_key(one) == address_key(other)) is same


def test_the_whole_ipv6_network_of_a_caller_has_one_allowance() -> None:
    census = ConnectionCounter(None, per_address=2)
    leases = [census.enter(f"2001:db8::{number}") for number in (1, 2)]
    with pytest.raises(TooManyConnectionsError):
        census.enter("2001:db8::3")
    census.enter("2001:db8:0:1::3")
    leases[0].release()
    census.enter("2001:db8::3")


def test_a_full_server_and_a_full_address_are_told_apart() -> None:
    census = ConnectionCounter(1, per_address=1)
    census.enter("192.0.2.1")
    with pytest.raises(ServerFullError) as full:
        census.enter("192.0.2.2")
    assert (full.value.http_status, full.value.code) == (503, 4291)
    with pytest.raises(TooManyConnectionsError) as own:
        ConnectionCounter(None, per_address=0).enter("192.0.2.1")
    assert (own.value.http_status, own.value.code) == (429, 4291)


@given(st.lists(st.tuples(st.sampled_from(["in", "out", "name"]), st.sampled_from("ab"), st.sampled_from("xy"))))
def test_the_census_counts_who_is_there(steps: list[tuple[str, str, str]]) -> None:
    census = ConnectionCounter(6, per_subject=2, per_address=4)
    there: list[Lease] = []
    for step, address, subject in steps:
        try:
            if step == "in":
                there.append(census.enter(address))
            elif step == "name" and there:
                there[-1].set_subject(subject)
            elif there:
                gone = there.pop(0)
                gone.release()
                gone.release()
        except TooManyConnectionsError:
            pass
        addresses = Counter(lease.address for lease in there)
        subjects = Counter(lease.subject for lease in there if lease.subject is not None)
        assert census.connections == len(there) <= 6
        assert max(addresses.values(), default=0) <= 4
        assert max(subjects.values(), default=0) <= 2
    for lease in there:
        lease.release()
    for address in "ab":
        for subject in "xy":
            census.enter(address, subject).release()
    assert census.connections == 0


def test_rates_are_of_an_address() -> None:
    rates = RateLimiter("2/minute", "1/minute")
    for _ in range(2):
        rates.connect("192.0.2.1")
    with pytest.raises(ConnectRateError) as refused:
        rates.connect("192.0.2.1")
    assert refused.value.retry_after == 60
    rates.connect("192.0.2.2")
    rates.login_failed("192.0.2.2")
    with pytest.raises(ConnectRateError, match="failed logins"):
        rates.connect("192.0.2.2")


class CountingDict(dict[str | int, int]):
    """Counts how often it is looked at; going through it is an error."""

    looks = 0

    def get(self, key: str | int, default: int = 0) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.looks += 1
        return super().get(key, default)

    def __iter__(self) -> Iterator[str | int]:
        raise AssertionError("an operation iterates over all keys")

    def items(self) -> NoReturn:
        raise AssertionError("an operation iterates over all keys")


def test_counting_one_address_takes_the_same_steps_however_many_are_known() -> None:
    steps: list[int] = []
    for known in (1, 100_000):
        windows = Windows(Frequency.parse("600/minute"), lambda: 0.0, most=200_000)
        windows._counts = counts = CountingDict({f"192.0.2.{number}": 1 for number in range(known)})
        assert windows.hit("198.51.100.1")
        assert windows.hit("192.0.2.0")
        steps.append(counts.looks)
    assert steps[0] == steps[1] <= 6


def test_a_table_of_addresses_is_bounded_and_lets_nobody_off() -> None:
    now = 0.0
    windows = Windows(Frequency.parse("2/minute"), lambda: now, most=100)
    for number in range(20_000):
        windows.hit(f"2001:db8:{number:x}::/64")
    assert len(windows) <= 100 + 4_096
    windows.hit("2001:db8:0::/64")  # known from the beginning: its own counter is kept
    assert not windows.hit("2001:db8:0::/64")
    assert [windows.hit("late") for _ in range(3)][-1] is False  # shared, and still counted
    now = 60.0
    assert not windows.hit("2001:db8:0::/64")
    now = 180.0
    assert windows.hit("2001:db8:0::/64")
    assert len(windows) == 1


def test_windows_slide() -> None:
    now = 59.0
    windows = Windows(Frequency.parse("4/minute"), lambda: now)
    assert [windows.hit("a") for _ in range(5)] == [True] * 4 + [False]
    now = 61.0  # another window by the clock, and nothing of the one before has passed
    assert not windows.hit("a")
    now = 75.0
    assert [windows.hit("a") for _ in range(2)] == [True, False]
    now = 119.0
    assert [windows.hit("a") for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize(
    ("text", "amount", "seconds"),
    [("10/second", 10, 1), ("600/minute", 600, 60), ("5 per 2 hours", 5, 7_200), ("1/day", 1, 86_400)],
)
def test_frequencies(text: str, amount: int, seconds: float) -> None:
    parsed = Frequency.parse(text)
    assert (parsed.amount, parsed.seconds) == (amount, seconds)


@pytest.mark.parametrize(
    "text", ["", "0/second", "-1/second", "5/0 seconds", "5", "5/fortnight", "5/second;1/day", "٣/second"]
)
def test_texts_that_are_no_frequency(text: str) -> None:
    with pytest.raises(ValueError, match="frequency"):
        Frequency.parse(text)


def test_without_rates_everybody_may_come_as_often_as_he_likes() -> None:
    rates = RateLimiter(None, None)
    for _ in range(100):
        rates.connect("192.0.2.1")
        rates.login_failed("192.0.2.1")


@pytest.mark.row("HIVE-D20")
def test_requests_are_of_a_caller() -> None:
    now = 0.0
    requests = Requests(LimitSettings(messages_per_second=2, message_burst=2), lambda: now)
    for _ in range(2):
        requests.acquire("alice")
    with pytest.raises(MessageRateError) as refused:
        requests.acquire("alice")
    assert refused.value.retry_after == 0.5
    requests.acquire("bob")
    now = 0.5
    requests.acquire("alice")


# ---------------------------------------------------------------- over all processes
class SilentFleet(MemoryFleet):
    """A process that counts callers and does not answer."""

    async def admit(
        self, rates: Sequence[RateLimit], counts: Sequence[CountLimit] = ()
    ) -> RateLimit | CountLimit | None:
        await super().admit(rates, counts)
        await asyncio.Event().wait()
        return None


async def test_a_fleet_that_does_not_answer_is_asked_again_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_limits, "_PATIENCE", 0.01)
    network, now = Network(), [0.0]
    limits = FleetLimits(SilentFleet(network, "a"), LimitSettings(connections_per_address=1), lambda: now[0])
    counter = ("connections_by_address", "192.0.2.1", "a")
    leases = [await limits.admit("192.0.2.1", None) for _ in range(3)]
    assert network.counts[counter] == 1  # the others were not counted
    now[0] += 5
    leases.append(await limits.admit("192.0.2.1", None))
    assert network.counts[counter] == 2
    for lease in (*leases, *leases):
        lease.release()
    assert network.counts[counter] == 0


async def test_a_refused_connection_is_counted_no_longer() -> None:
    network = Network()
    limits = FleetLimits(network.join("a"), LimitSettings(connections_per_subject=1))
    lease = await limits.admit("192.0.2.1", None)
    await limits.claim_subject(lease, "alice")
    with pytest.raises(TooManyConnectionsError, match="a subject may have 1 connections, over all processes"):
        await limits.enter("192.0.2.2", "alice")
    assert +network.counts == {
        ("connections_by_address", "192.0.2.1", "a"): 1,
        ("connections_by_subject", "alice", "a"): 1,
    }
    lease.release()
    assert not +network.counts
