"""The fleet of processes on a real Redis."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from lg_streaming.errors import LogUnavailableError, NoAnswerError, PromptError, StreamingError, SubscriberLimitError
from lg_streaming.log.fleet import CountLimit, Fleet, RateLimit
from tests.log.fleets import LEASE, PATIENCE, Member, members, stop, stop_until, until, until_live
from tests.support.redis_server import RedisServer, redis_server

Make = Callable[..., Member]
_numbers = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def make(server: RedisServer) -> Iterator[Make]:
    with members(server.url, f"t{next(_numbers)}") as make:
        yield make


def keys_of(member: Member, kind: str = "*") -> list[object]:
    return member.execute("KEYS", f"{member.fleet._store.key(kind)}*")


# --- leases -------------------------------------------------------------------------------------------------


async def test_a_process_that_joins_is_found_at_once(make: Make) -> None:
    first, second = make(lease=60), make(lease=60)
    await until_live(first)
    await until_live(first, second)


async def test_processes_find_each_other_and_publish_reports(make: Make) -> None:
    first, second = make(), make()
    protocol: Fleet = first.fleet
    protocol.set_report(lambda: {"connections": 3})
    await until_live(first, second)
    one, two = await second.fleet.processes()
    assert [one.process_id, two.process_id] == [first.fleet.process_id, second.fleet.process_id]
    assert one.report == {"connections": 3}
    assert two.report == {}
    assert abs(one.started_at - time.time()) < 10
    assert one.started_at <= one.seen_at <= time.time() + 1
    assert one.version


async def test_a_process_that_leaves_is_gone_at_once_and_leaves_no_key(make: Make) -> None:
    first, second = make(lease=30), make(lease=30)
    await until_live(first)
    await until_live(second)
    assert await second.fleet.claim("a")
    await second.fleet.count("connections", "x", 1)
    await second.fleet.aclose()
    await until(lambda: first.fleet.live == frozenset({first.fleet.process_id}))
    assert [each.process_id for each in await first.fleet.processes()] == [first.fleet.process_id]
    left = {str(key) for key in keys_of(first) if second.fleet.process_id in str(key)}
    assert left == {f"b'{first.fleet._store.key('reaped')}:{{{second.fleet.process_id}}}'"}
    assert await first.fleet.claim("a")
    with pytest.raises(LogUnavailableError, match="closed"):
        await second.fleet.claim("b")


async def test_the_runs_of_a_dead_process_are_ended_once(make: Make) -> None:
    dead, *others = make(), make(), make()
    await until_live(dead, *others)
    runs = {f"run-{number}" for number in range(600)}
    for run in runs:
        dead.execute(*dead.fleet.add_run(run, dead.fleet.process_id))
    dead.execute(*dead.fleet.remove_run("run-0", dead.fleet.process_id))
    await dead.crash()
    begun = time.monotonic()
    await until(lambda: sum(len(each.abandoned) for each in others) >= 599)
    assert time.monotonic() - begun < LEASE * 4 / 3 + 1
    await until(lambda: all(dead.fleet.process_id not in each.fleet.live for each in others))
    await until(lambda: not [key for key in keys_of(others[0], "runs") if dead.fleet.process_id in str(key)])
    ended = sorted(each for other in others for each in other.abandoned)
    assert ended == sorted((run, dead.fleet.process_id) for run in runs - {"run-0"})


async def test_runs_of_a_process_that_died_while_none_ran_are_ended_at_the_next_start(make: Make) -> None:
    dead = make()
    await until_live(dead)
    dead.execute(*dead.fleet.add_run("run", dead.fleet.process_id))
    await dead.crash()
    await asyncio.sleep(LEASE)
    later = make()
    later.fleet.start()
    await until(lambda: later.abandoned == [("run", dead.fleet.process_id)])


async def test_a_reaper_that_fails_leaves_the_rest_to_the_next(make: Make) -> None:
    dead, first = make(), make()
    await until_live(dead, first)

    async def fail(execution_id: str, process_id: str) -> None:
        raise LogUnavailableError

    first.abandon = fail
    dead.execute(*dead.fleet.add_run("run", dead.fleet.process_id))
    await dead.crash()
    await asyncio.sleep(2 * LEASE)
    second = make()
    second.fleet.start()
    await until(lambda: second.abandoned == [("run", dead.fleet.process_id)])


async def test_one_process_at_a_time_ends_the_runs_of_a_dead_process(make: Make) -> None:
    dead, *others = make(), make(), make()
    await until_live(dead, *others)
    begun: list[Member] = []

    def slow(member: Member) -> Callable[[str, str], Awaitable[None]]:
        async def abandon(execution_id: str, process_id: str) -> None:
            begun.append(member)
            await asyncio.sleep(LEASE * 2 / 3)  # the other renews its lease twice

        return abandon

    for each in others:
        each.abandon = slow(each)
    dead.execute(*dead.fleet.add_run("run", dead.fleet.process_id))
    await dead.crash()
    await until(lambda: dead.fleet.process_id not in {*others[0].fleet.live, *others[1].fleet.live})
    await until(lambda: not others[0].execute("EXISTS", *others[0].fleet._lease.keys(dead.fleet.process_id, "runs")))
    assert len(begun) == 1


async def test_a_process_that_leaves_ends_its_runs_itself_or_leaves_them_to_others(make: Make) -> None:
    first, second, other = make(lease=30), make(lease=30), make()
    await until_live(first)
    await until_live(second)
    await until_live(other)
    for each in (first, second):
        each.execute(*each.fleet.add_run("run", each.fleet.process_id))

    async def fail(execution_id: str, process_id: str) -> None:
        raise LogUnavailableError

    second.abandon = fail
    await first.fleet.aclose()
    assert first.abandoned == [("run", first.fleet.process_id)]
    assert other.abandoned == []
    await second.fleet.aclose()
    await until(lambda: other.abandoned == [("run", second.fleet.process_id)])


async def test_a_process_declared_dead_takes_another_id_and_loses_its_claims(make: Make) -> None:
    paused, other = make(), make()
    await until_live(paused, other)
    lost: list[str] = []
    paused.fleet.on_claim_lost(lost.append)
    paused.fleet.on_lease_lost(lost.append)
    old = paused.fleet.process_id
    assert await paused.fleet.claim("a")
    assert await paused.fleet.count("connections", "x", 2) == 2
    goes_on = threading.Event()
    paused.io.call(stop_until(goes_on))
    try:
        await until(lambda: old not in other.fleet.live)
        async with asyncio.timeout(PATIENCE):
            while not await other.fleet.claim("a"):  # it was renewed just after the lease, and so expires after it
                await asyncio.sleep(0.01)
        assert lost == []
    finally:
        goes_on.set()
    await until(lambda: lost == ["a", old])
    new = paused.fleet.process_id
    assert new != old
    await until(lambda: new in other.fleet.live)
    other.fleet.on_request("ping", echo)
    paused.fleet.on_request("ping", echo)
    assert await other.fleet.request(new, "ping", 1) == 1
    assert await paused.fleet.request(other.fleet.process_id, "ping", 2) == 2
    assert not await paused.fleet.claim("a")
    assert await other.fleet.count("connections", "x", 1) == 3


async def echo(payload: object) -> object:
    return payload


# --- requests -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [None, {"a": [1, "ü"]}, "x" * 1_000_000], ids=["none", "object", "large"])
async def test_a_request_reaches_another_process_and_this_one(make: Make, payload: object) -> None:
    first, second = make(), make()
    for each in (first, second):
        each.fleet.on_request("echo", echo)
        await until_live(each)
    for each in (first, second):
        assert await first.fleet.request(each.fleet.process_id, "echo", payload) == payload


@pytest.mark.parametrize("here", [True, False])
async def test_the_error_of_a_handler_reaches_the_caller(make: Make, here: bool) -> None:
    first, second = make(), make()
    target = first if here else second
    errors: list[Exception] = [
        PromptError("answered", details={"by": "x"}),
        SubscriberLimitError("full", execution_id="e", retry_after=2.5),
        KeyError("secret"),
    ]

    async def fail(payload: int) -> None:
        raise errors[payload]

    target.fleet.on_request("fail", fail)
    await until_live(first, second)
    with pytest.raises(PromptError, match="answered") as prompt:
        await first.fleet.request(target.fleet.process_id, "fail", 0)
    assert prompt.value.details == {"by": "x"}
    with pytest.raises(SubscriberLimitError, match="full") as limit:
        await first.fleet.request(target.fleet.process_id, "fail", 1)
    assert (limit.value.execution_id, limit.value.retry_after) == ("e", 2.5)
    with pytest.raises(StreamingError, match="KeyError") as other:
        await first.fleet.request(target.fleet.process_id, "fail", 2)
    assert other.value.code == 5000
    assert "secret" not in str(other.value)


async def test_a_request_to_a_process_without_a_handler(make: Make) -> None:
    first, second = make(), make()
    await until_live(first, second)
    with pytest.raises(NoAnswerError, match="no handler for 'absent'"):
        await first.fleet.request(second.fleet.process_id, "absent", None)


async def test_a_request_to_a_dead_process_fails_at_once(make: Make) -> None:
    first, second = make(), make()
    await until_live(first, second)
    gone = second.fleet.process_id
    await second.crash()
    await until(lambda: keys_of(first, f"reaped:{{{gone}}}"))
    for process_id, seen in ((gone, True), ("0" * 16, False)):
        begun = time.monotonic()
        with pytest.raises(NoAnswerError, match=r"is gone.*was not carried out") as caught:
            await first.fleet.request(process_id, "echo", None)
        assert time.monotonic() - begun < 1
        assert caught.value.details["known"] == "gone"
        assert caught.value.details["process_id"] == process_id
        assert (caught.value.details["seen_s"] is not None) == seen


async def test_a_request_to_a_process_that_dies_ends_with_its_lease(make: Make) -> None:
    first, second = make(), make()
    taken = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def hang(payload: object) -> None:
        loop.call_soon_threadsafe(taken.set)
        await asyncio.Event().wait()

    second.fleet.on_request("hang", hang)
    await until_live(first, second)
    task = asyncio.create_task(first.fleet.request(second.fleet.process_id, "hang", None, timeout=60))
    await taken.wait()
    await second.crash()
    third = make()
    await until_live(third)
    with pytest.raises(NoAnswerError, match="may have carried out") as caught:
        await asyncio.wait_for(task, 10)
    assert caught.value.details["known"] == "restarted"
    assert caught.value.details["seen_s"] >= LEASE * 0.9


async def test_a_request_to_a_process_that_leaves_ends_at_once(make: Make) -> None:
    first, second = make(lease=30), make(lease=30)
    taken = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def hang(payload: object) -> None:
        loop.call_soon_threadsafe(taken.set)
        await asyncio.Event().wait()

    second.fleet.on_request("hang", hang)
    await until_live(first)
    await until_live(second)
    task = asyncio.create_task(first.fleet.request(second.fleet.process_id, "hang", None, timeout=60))
    await taken.wait()
    await second.fleet.aclose()
    with pytest.raises(NoAnswerError, match="is gone"):
        await asyncio.wait_for(task, 10)


async def test_a_hanging_handler_does_not_delay_others_and_its_caller_gets_what_is_known(make: Make) -> None:
    first, second = make(), make()

    async def hang(payload: object) -> None:
        await asyncio.Event().wait()

    second.fleet.on_request("hang", hang)
    second.fleet.on_request("echo", echo)
    await until_live(first, second)
    task = asyncio.create_task(first.fleet.request(second.fleet.process_id, "hang", None, timeout=0.3))
    results = await asyncio.gather(
        *(first.fleet.request(second.fleet.process_id, "echo", number) for number in range(200))
    )
    assert results == list(range(200))
    assert not task.done() or task.exception()
    with pytest.raises(NoAnswerError, match=r"alive.*may still carry it out") as caught:
        await task
    assert caught.value.details["known"] == "alive"


async def test_a_request_that_was_not_taken_in_time_is_never_carried_out(make: Make) -> None:
    first, second = make(lease=30), make(lease=30)
    carried_out: list[object] = []

    async def note(payload: object) -> None:
        carried_out.append(payload)

    second.fleet.on_request("note", note)
    await until_live(first)
    await until_live(second)
    second.io.call(stop(second, 0.8))
    with pytest.raises(NoAnswerError, match=r"did not take.*not carried out") as caught:
        await first.fleet.request(second.fleet.process_id, "note", 1, timeout=0.3)
    assert caught.value.details["known"] == "alive"
    assert await first.fleet.request(second.fleet.process_id, "note", 2, timeout=5) is None
    assert carried_out == [2]


async def test_a_request_whose_caller_is_gone_is_not_carried_out_after_its_deadline(make: Make) -> None:
    first, second = make(lease=30), make(lease=30)
    carried_out: list[object] = []

    async def note(payload: object) -> None:
        carried_out.append(payload)

    second.fleet.on_request("note", note)
    await until_live(first)
    await until_live(second)
    blocked = asyncio.wrap_future(second.io.call(stop(second, 0.8)))
    task = asyncio.create_task(first.fleet.request(second.fleet.process_id, "note", 1, timeout=0.5))
    await until(lambda: keys_of(first, "mail"))
    task.cancel()
    await blocked
    assert await first.fleet.request(second.fleet.process_id, "note", 2) is None
    assert carried_out == [2]


async def test_lost_notifications_delay_a_request_no_longer_than_a_renewal(make: Make) -> None:
    first, second = make(), make()
    second.fleet.on_request("echo", echo)
    await until_live(first, second)
    second.fleet._mailbox.handle = lambda notification: None  # type: ignore[method-assign]
    second.fleet._subscribe(second.fleet._mailbox.channel(second.fleet.process_id), lambda _payload: None)
    assert await first.fleet.request(second.fleet.process_id, "echo", 1, timeout=5) == 1


async def test_payloads_are_limited(make: Make) -> None:
    first, second = make(), make()

    async def large(payload: object) -> str:
        return "x" * 1_048_576

    async def strange(payload: object) -> object:
        return object()

    second.fleet.on_request("large", large)
    second.fleet.on_request("strange", strange)
    await until_live(first, second)
    target = second.fleet.process_id
    with pytest.raises(ValueError, match="request 'echo' has 1,048,578 bytes"):
        await first.fleet.request(target, "echo", "x" * 1_048_576)
    with pytest.raises(TypeError, match="no JSON value"):
        await first.fleet.request(target, "echo", object())
    with pytest.raises(StreamingError, match="'large' failed: ValueError"):
        await first.fleet.request(target, "large", None)
    with pytest.raises(StreamingError, match="'strange' failed: TypeError"):
        await first.fleet.request(target, "strange", None)
    with pytest.raises(ValueError, match="topic 't' has"):
        first.fleet.publish("t", "x" * 1_048_576)
    with pytest.raises(ValueError, match="value 'k' of kind 'v' has"):
        await first.fleet.put("v", "k", "x" * 1_048_576, ttl=1)


# --- messages -----------------------------------------------------------------------------------------------


async def test_messages_reach_all_other_processes_in_order(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    all_members = [make(), make(), make()]
    got: list[list[object]] = [[], [], []]
    removes = [each.fleet.on_message("topic", got[number].append) for number, each in enumerate(all_members)]

    def fail(payload: object) -> None:
        raise KeyError(payload)

    all_members[1].fleet.on_message("topic", fail)
    await until_live(*all_members)
    for number in range(100):
        all_members[0].fleet.publish("topic", number)
        all_members[0].fleet.publish("other", number)
    await until(lambda: len(got[1]) == len(got[2]) == 100)
    assert got[1] == got[2] == list(range(100))
    assert got[0] == []
    assert "a handler of messages 'topic' failed" in caplog.text
    removes[1]()
    all_members[0].fleet.publish("topic", 100)
    await until(lambda: len(got[2]) == 101)
    assert len(got[1]) == 100


# --- claims -------------------------------------------------------------------------------------------------


async def test_one_process_holds_a_claim_until_it_releases_it_or_dies(make: Make) -> None:
    first, second = make(), make()
    names = [f"sink {number} {{x}}" for number in range(20)]
    results = await asyncio.gather(
        *(each.fleet.claim(name) for name in names for each in (first, second)),
    )
    held = [results[2 * number : 2 * number + 2] for number in range(20)]
    assert all(sorted(each) == [False, True] for each in held)
    assert await first.fleet.claim("a")
    assert await first.fleet.claim("a")
    await asyncio.sleep(1.5 * LEASE)
    assert not await second.fleet.claim("a")
    first.fleet.release("a")
    first.fleet.release("absent")
    await until(lambda: not keys_of(second, "claim:{a}"))
    assert await second.fleet.claim("a")
    assert not await first.fleet.claim("a")
    await second.crash()
    deadline = time.monotonic() + 3 * LEASE
    while not await first.fleet.claim("a"):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_the_release_of_a_claim_that_another_process_has_taken_has_no_effect(make: Make) -> None:
    first = make(lease=30)
    assert await first.fleet.claim("a")
    key = first.fleet._claims._key("a")
    first.execute("SET", key, "another")
    first.fleet.release("a")
    await first.fleet.get("kind", "key")
    assert first.execute("GET", key) == b"another"
    assert not await first.fleet.claim("a")


async def test_a_claim_that_is_claimed_again_after_its_release_stays(make: Make) -> None:
    first, second = make(), make()
    for _ in range(50):
        assert await first.fleet.claim("a")
        first.fleet.release("a")
    assert await first.fleet.claim("a")
    await first.fleet.get("kind", "key")
    assert not await second.fleet.claim("a")


async def test_a_thousand_claims_are_renewed_in_milliseconds(make: Make) -> None:
    first = make(lease=30)
    assert all(await asyncio.gather(*(first.fleet.claim(f"sink-{number}") for number in range(1000))))
    times: list[float] = []
    for _ in range(5):
        begun = time.perf_counter()
        await first.io.run(first.fleet._claims.renew())
        times.append(time.perf_counter() - begun)
    print(f"1,000 claims renewed in {min(times) * 1000:.1f} ms")
    assert min(times) < 0.05


# --- values and counters ------------------------------------------------------------------------------------


async def test_values_are_shared_and_expire(make: Make) -> None:
    first, second = make(), make()
    await first.fleet.put("answers", "a:{b}", {"x": 1}, ttl=60)
    await first.fleet.put("answers", "short", 2, ttl=0.2)
    await first.fleet.put("other", "a", None, ttl=60)
    assert await second.fleet.get("answers", "a:{b}") == {"x": 1}
    assert await second.fleet.values("answers") == {"a:{b}": {"x": 1}, "short": 2}
    await asyncio.sleep(0.25)
    assert await second.fleet.get("answers", "short") is None
    assert await second.fleet.values("answers") == {"a:{b}": {"x": 1}}
    taken = await asyncio.gather(*(each.fleet.take("answers", "a:{b}") for each in (first, second) for _ in range(10)))
    assert sorted(map(str, taken)) == sorted([str(None)] * 19 + [str({"x": 1})])
    assert await second.fleet.values("answers") == {}
    assert await second.fleet.get("absent", "absent") is None
    assert await second.fleet.values("absent") == {}


async def test_counters_sum_over_the_live_processes(make: Make) -> None:
    first, second, third = make(), make(), make()
    assert await first.fleet.count("connections", "sub", 1) == 1
    results = await asyncio.gather(*(second.fleet.count("connections", "sub", 1) for _ in range(50)))
    assert sorted(results) == list(range(2, 52))
    assert await first.fleet.count("connections", "other", 1) == 1
    assert await third.fleet.count("connections", "sub", 0) == 51
    await second.crash()
    deadline = time.monotonic() + 5
    while (total := await third.fleet.count("connections", "sub", 1)) > 10:
        assert total >= 51
        await third.fleet.count("connections", "sub", -1)
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    assert total == 2
    await until(lambda: second.fleet.process_id not in first.fleet.live)  # it looks by itself
    assert await first.fleet.count("connections", "sub", -1) == 1
    assert await third.fleet.count("connections", "sub", -5) == 0
    deadline = time.monotonic() + 5
    while keys_of(first, "count:{limits}:connections:sub"):  # until a renewal has found the dead process removed
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
        assert await third.fleet.count("connections", "sub", 0) == 0


async def test_the_share_of_a_dead_process_does_not_count_before_it_is_removed(make: Make) -> None:
    first, second = make(), make()
    await until_live(first, second)

    async def fail(execution_id: str, process_id: str) -> None:
        raise LogUnavailableError

    first.abandon = fail
    second.execute(*second.fleet.add_run("run", second.fleet.process_id))
    assert await second.fleet.count("connections", "x", 5) == 5
    assert await first.fleet.count("connections", "x", 1) == 6
    await second.crash()
    await until(lambda: second.fleet.process_id not in first.fleet.live)
    assert await first.fleet.count("connections", "x", 0) == 1


# --- limits -------------------------------------------------------------------------------------------------


async def test_all_limits_of_a_caller_are_one_request(make: Make) -> None:
    first, second = make(lease=30), make(lease=30)
    await until_live(first, second)
    calls = first.execute("INFO", "commandstats")["cmdstat_evalsha"]["calls"]
    failures, connects = RateLimit("failures", "a", 5, 3600, hits=False), RateLimit("connects", "a", 3, 3600)
    counts = [CountLimit("address", "a", 2), CountLimit("subject", "s", 9)]
    assert await first.fleet.admit([failures, connects], counts) is None
    assert await second.fleet.admit([failures, connects], counts) is None
    assert await second.fleet.admit([failures, connects], counts) == counts[0]
    assert await first.fleet.admit([failures, connects], counts) == connects
    assert first.execute("INFO", "commandstats")["cmdstat_evalsha"]["calls"] - calls <= 4 + 1
    for fleet in (first.fleet, second.fleet):
        fleet.discount(counts)
        await fleet.get("kind", "key")  # after it
    assert await first.fleet.count("address", "a", 0) == 2
    assert await second.fleet.count("subject", "s", 0) == 2


async def test_a_rate_that_refuses_leaves_the_other_rates_unchanged(make: Make) -> None:
    fleet = make(lease=30).fleet
    one, other = RateLimit("one", "a", 1, 3600), RateLimit("other", "a", 2, 3600)
    assert await fleet.admit([one, other]) is None
    assert await fleet.admit([other, one]) == one
    check = one._replace(hits=False)
    assert await fleet.admit([check]) == check
    assert await fleet.admit([other]) is None
    assert await fleet.admit([other]) == other
    assert await fleet.admit([one._replace(key="b"), one._replace(seconds=60)]) is None


async def test_a_rate_is_a_sliding_window_that_expires(make: Make) -> None:
    member = make(lease=30)
    rate = RateLimit("one", "a", 4, 1.0)

    def redis_time() -> float:
        seconds, microseconds = member.execute("TIME")
        return int(seconds) + int(microseconds) / 1e6

    while not 0.5 <= redis_time() % 1 <= 0.7:
        await asyncio.sleep(0.05)
    began = int(redis_time())
    assert [await member.fleet.admit([rate]) for _ in range(5)] == [None] * 4 + [rate]
    while await member.fleet.admit([rate]) is not None:
        await asyncio.sleep(0.01)
    assert began + 1.25 <= redis_time() <= began + 1.5  # then a quarter of the hits before counts no longer
    assert await member.fleet.admit([rate]) == rate
    (key,) = keys_of(member, "rate")
    assert 1000 < member.execute("PTTL", key) <= 2000


async def test_limits_of_a_burst_admit_as_many_as_they_allow(make: Make) -> None:
    first, second = make(lease=30), make(lease=30)
    await until_live(first, second)
    rates, counts = [RateLimit("one", "a", 150, 3600)], [CountLimit("address", "a", 100)]
    answers = await asyncio.gather(*(each.fleet.admit(rates, counts) for each in (first, second) for _ in range(100)))
    assert answers.count(rates[0]) == 50
    assert answers.count(counts[0]) == 50
    assert answers.count(None) == 100


async def test_a_cancelled_caller_counts_until_it_is_discounted(make: Make) -> None:
    first, second = make(lease=30), make(lease=30)
    await until_live(first, second)
    counts = [CountLimit("address", "a", 9)]
    assert await first.fleet.admit([], counts) is None
    blocked = first.io.call(stop(first, 0.2))
    task = asyncio.create_task(first.fleet.admit([], counts))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    first.fleet.discount(counts)
    await asyncio.wrap_future(blocked)
    assert await first.fleet.count("address", "a", 0) == 1


async def test_callers_that_leave_at_once_are_few_scripts(make: Make) -> None:
    first, second = make(lease=30), make(lease=30)
    await until_live(first, second)
    counts = [CountLimit("address", "a", 999), CountLimit("subject", "s", 999)]
    await asyncio.gather(*(first.fleet.admit([], counts) for _ in range(500)))
    calls = first.execute("INFO", "commandstats")["cmdstat_evalsha"]["calls"]
    for _ in range(499):
        first.fleet.discount(counts)
    deadline = time.monotonic() + 5
    while [await second.fleet.count(each.kind, each.key, 0) for each in counts] != [1, 1]:
        calls += 2
        assert time.monotonic() < deadline
    used = first.execute("INFO", "commandstats")["cmdstat_evalsha"]["calls"] - calls
    assert used < 250, used
