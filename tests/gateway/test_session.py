"""The rules of a connection, with the time in the test's hands."""

import asyncio
import math
from typing import Any

import pytest

from lg_streaming.errors import (
    BadPositionError,
    BadRequestError,
    MessageRateError,
    TokenExpiredError,
    TooManyConnectionsError,
)
from lg_streaming.gateway.auth.peer import Peer
from lg_streaming.gateway.auth.policy import Policy
from lg_streaming.gateway.auth.principal import Principal, grants_of
from lg_streaming.gateway.limits.rates import ConnectionCounter
from lg_streaming.gateway.session.context import Clock as Times
from lg_streaming.gateway.session.context import GatewayContext
from lg_streaming.gateway.session.handlers import handle
from lg_streaming.gateway.session.session import Session, format_time
from lg_streaming.gateway.session.subscriptions import ActiveSubscription
from lg_streaming.gateway.session.timers import Schedule, SessionTimers, TimerEvent
from lg_streaming.hub import StreamHub
from lg_streaming.settings import AuthSettings, LimitSettings, StreamingSettings
from tests.gateway.tokens import SECRET, token
from tests.hub.faulty import FaultyLog

HERE = Peer(address="127.0.0.1", headers={"host": "localhost"}, server=("127.0.0.1", 80))


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def session(clock: Clock, *, census: ConnectionCounter | None = None, **limits: Any) -> Session:
    settings = StreamingSettings(limits=LimitSettings(**limits))
    context = GatewayContext(
        hub=StreamHub(settings),
        settings=settings,
        policy=Policy(AuthSettings()),
        clock=Times(wall=clock, monotonic=clock),
    )
    if census is not None:
        context.admission.connections = census
    return Session(peer=HERE, context=context, transport="socketio", authenticated=True)


async def test_the_third_fault_of_a_kind_closes() -> None:
    one = session(Clock())
    closes = [(await handle(one, "shout", [])).close for _ in range(3)]
    assert closes[:2] == [None, None]
    assert isinstance(closes[2], BadRequestError)


async def test_a_bad_position_is_no_reason_to_close() -> None:
    one = session(Clock())
    for _ in range(5):
        reply = await handle(one, "subscribe_execution", [{"execution_id": "a", "after": "nonsense"}])
        assert reply.answer["error"]["code"] == BadPositionError.code
        assert reply.close is None


async def test_messages_over_the_rate_are_answered_with_when_to_try_again() -> None:
    clock = Clock()
    one = session(clock, messages_per_second=20, message_burst=2)
    assert all([(await handle(one, "ping", [])).answer["ok"] for _ in range(2)])
    reply = await handle(one, "ping", [])
    assert (reply.answer["error"]["code"], reply.answer["error"]["retry_after_ms"]) == (4293, 50)
    clock.now += 0.06
    assert (await handle(one, "ping", [])).answer == {"ok": True, "timestamp": format_time(clock.now)}
    await handle(one, "ping", [])
    assert isinstance((await handle(one, "ping", [])).close, MessageRateError)


async def test_a_connection_counts_from_its_login_to_its_end() -> None:
    census = ConnectionCounter(1)
    first, second = session(Clock(), census=census), session(Clock(), census=census)
    await first.login()
    with pytest.raises(TooManyConnectionsError):
        await second.login()
    second.close()
    assert census.connections == 1
    first.close()
    first.close()
    assert census.connections == 0
    await second.login("ignored while authentication is off")


async def test_a_reply_says_what_to_start_and_what_to_stop() -> None:
    one = session(Clock())
    one.hub.open("a")
    first = await handle(one, "subscribe_execution", [{"execution_id": "a"}])
    assert isinstance(first.start, ActiveSubscription)
    again = await handle(one, "subscribe_execution", [{"execution_id": "a", "batch": True}])
    assert list(again.stop) == [first.start]
    assert first.start.source.closed
    left = await handle(one, "unsubscribe_execution", [{"execution_id": "a"}])
    assert list(left.stop) == [again.start]
    assert one.subscriptions == {}
    assert one.hub.statistics().subscriptions == 0


async def test_a_refused_subscription_leaves_the_one_before_alone() -> None:
    one = session(Clock())
    first = await handle(one, "subscribe_execution", [{"execution_id": "a"}])
    refused = await handle(one, "subscribe_execution", [{"execution_id": "a", "min_priority": "urgent"}])
    assert not refused.answer["ok"]
    assert list(one.subscriptions.values()) == [first.start]
    one.close()
    assert one.subscriptions == {}
    assert one.hub.statistics().subscriptions == 0


async def test_a_heartbeat_tells_where_each_execution_stands() -> None:
    clock = Clock()
    one = session(clock)
    one.hub.publish("a", "token", {"content": "x"})
    for execution_id in ("a", "not-yet"):
        await handle(one, "subscribe_execution", [{"execution_id": execution_id}])
    beat = await one.heartbeat()
    state = await one.hub.describe("a")
    assert state is not None
    assert beat == {"timestamp": "1970-01-01T00:16:40.000Z", "positions": {"a": f"{state.epoch}:2"}}


# ---------------------------------------------------------------- an expired token, and a fresh one
def guarded(clock: Clock, hub: StreamHub) -> Session:
    settings = StreamingSettings()
    policy = Policy(AuthSettings.model_validate({"secret": SECRET}))
    context = GatewayContext(hub=hub, settings=settings, policy=policy, clock=Times(wall=clock, monotonic=clock))
    one = Session(peer=HERE, context=context, transport="socketio")
    one.set_principal(Principal(subject="alice", expires_at=clock.now + 60))
    return one


async def test_an_expired_token_controls_and_reads_nothing_while_a_fresh_one_may_still_come() -> None:
    clock, hub = Clock(), StreamHub()
    hub.open("e", owner="alice")
    one = guarded(clock, hub)
    assert (await handle(one, "subscribe_execution", [{"execution_id": "e"}])).answer["ok"]
    clock.now += 61
    taking_rights: dict[str, dict[str, Any]] = {
        "subscribe_execution": {"execution_id": "e"},
        "subscribe_events": {},
        "join_room": {"room_id": "lobby"},
        "respond": {"execution_id": "e", "prompt_id": "p", "response": 1},
        "cancel_execution": {"execution_id": "e"},
    }
    for name, payload in taking_rights.items():
        reply = await handle(one, name, [payload])
        assert (reply.answer["error"]["name"], reply.close) == ("token_expired", None)
    assert hub.registry.is_running("e")
    for name in ("ping", "get_status"):
        assert (await handle(one, name, [])).answer["ok"]
    assert (await handle(one, "unsubscribe_execution", [{"execution_id": "e"}])).answer["ok"]
    one.close()
    await hub.aclose()


async def test_a_fresh_token_counts_with_all_its_rights_or_not_at_all() -> None:
    log = FaultyLog()
    hub = StreamHub(log=log)
    hub.open("acme/run")
    await hub.writer.flush()
    one = guarded(Clock(), hub)
    wide = Principal(subject="alice", grants=grants_of([{"actions": ["read"], "executions": ["acme/*"]}]))
    one.set_principal(wide)
    assert (await handle(one, "subscribe_execution", [{"execution_id": "acme/run"}])).answer["ok"]
    log.away = True
    reply = await handle(one, "authenticate", [{"token": token()}])
    assert reply.answer["error"]["name"] == "log_unavailable"
    assert one.principal is wide
    log.away = False
    reply = await handle(one, "authenticate", [{"token": token()}])
    assert [subscription.execution_id for subscription in reply.forbidden] == ["acme/run"]
    assert not one.subscriptions
    assert one.principal.grants == ()
    one.close()
    await hub.aclose()


# ---------------------------------------------------------------- time
def test_what_is_due_on_the_way_to_the_end_of_a_token() -> None:
    clock = Clock()
    deadlines = Schedule(clock, 15.0, 25.0)
    expires_at = clock.now + 40.0

    def pass_time() -> tuple[float, TimerEvent]:
        waited = deadlines.next_due(expires_at - clock.now)
        clock.now += waited
        return waited, deadlines.advance(expires_at - clock.now)

    assert pass_time() == (10.0, TimerEvent(warning=30.0))
    assert pass_time() == (5.0, TimerEvent(heartbeat=True))
    assert pass_time() == (15.0, TimerEvent(heartbeat=True))
    assert pass_time() == (10.0, TimerEvent(pause=True))
    assert pass_time() == (5.0, TimerEvent(heartbeat=True))
    expires_at += 100
    deadlines.renew()
    assert pass_time() == (15.0, TimerEvent(heartbeat=True))
    expires_at = clock.now - 25
    _, due = pass_time()
    assert isinstance(due.close, TokenExpiredError)


async def test_a_fresh_token_that_expires_soon_is_announced_at_once() -> None:
    clock, hub, events = Clock(), StreamHub(), list[TimerEvent]()
    one = guarded(clock, hub)

    async def heartbeat() -> None:
        raise AssertionError

    timers = SessionTimers(one, events.append, heartbeat)
    timers.start()
    await asyncio.sleep(0.01)
    assert events == []
    one.set_principal(Principal(subject="alice", expires_at=clock.now + 30))
    timers.renew()
    await asyncio.sleep(0.01)
    assert events == [TimerEvent(warning=30.0)]
    await timers.close()
    one.close()
    await hub.aclose()


def test_without_heartbeats_and_without_an_end_nothing_is_ever_due() -> None:
    assert Schedule(Clock(), None, 0.0).next_due(None) == math.inf
