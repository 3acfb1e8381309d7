"""Exact numbers after known actions."""

from typing import Any, get_args

import pytest

from lg_streaming.errors import CODES
from lg_streaming.gateway.protocol.registry import MESSAGES_IN
from lg_streaming.hub import Histogram
from lg_streaming.observability.events import (
    ClientConnected,
    ClientDisconnected,
    ClientRefused,
    ExecutionSubscribed,
    ExecutionUnsubscribed,
    GapReported,
    GatewayEvents,
    MessageReceived,
    RoomJoined,
    RoomLeft,
    SubscriptionResumed,
    UpdatesMerged,
)
from lg_streaming.observability.gateway_metrics import GatewayMetrics
from lg_streaming.types import ProtocolName

WHO: dict[str, Any] = {"connection_id": "c", "transport": "socketio"}
SSE: dict[str, Any] = {"connection_id": "d", "transport": "sse"}


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


async def test_new_figures_have_counted_nothing() -> None:
    figures = GatewayMetrics(MESSAGES_IN).snapshot()
    assert set(figures.transports) == set(get_args(ProtocolName))
    assert (figures.connections, figures.connections_opened, figures.updates_sent) == (0, 0, 0)
    assert (figures.messages_received, figures.failed, figures.handling.count, figures.handling.mean) == (0, 0, 0, 0.0)
    assert set(figures.received) == {*MESSAGES_IN, "other"}
    assert set(figures.refused) == {*map(str, CODES), "other"}
    assert figures.delivery.count == 0


async def test_connections_by_transport_and_how_they_ended() -> None:
    figures = GatewayMetrics()
    for _ in range(3):
        figures.record(ClientConnected(**WHO))
    figures.record(ClientConnected(**SSE))
    figures.record(ClientConnected(**SSE))
    figures.record(ClientDisconnected(**WHO, code=4400))
    figures.record(ClientDisconnected(**WHO, code=1006))
    figures.record(ClientDisconnected(**SSE))
    found = figures.snapshot()
    socketio, sse = found.transports["socketio"], found.transports["sse"]
    assert (socketio.opened, socketio.connections, sse.opened, sse.connections) == (3, 1, 2, 1)
    assert {code: count for code, count in socketio.closed.items() if count} == {"4400": 1, "other": 1}
    assert {code: count for code, count in sse.closed.items() if count} == {"none": 1}
    assert (found.connections, found.connections_opened) == (2, 5)
    assert found.transports["websocket"].opened == 0


@pytest.mark.row("HIVE-D25")
async def test_messages_their_rate_their_failures_and_the_time_they_took() -> None:
    monotonic, cpu = Clock(5_000.0), Clock(7.0)
    figures = GatewayMetrics(MESSAGES_IN, monotonic=monotonic, cpu=cpu)
    for name in ("ping", "ping", "subscribe_execution", "a name of the client's own", "another"):
        figures.record(MessageReceived(**WHO, message_name=name, duration_s=0.002))
    figures.record(MessageReceived(**WHO, message_name="ping", duration_s=0.008, code=4000))
    figures.record(ClientRefused(**WHO, code=4000, reason="why"))
    figures.record(ClientRefused(**WHO, code=4293, reason="why"))
    figures.record(ClientRefused(**WHO, code=4293, reason="why"))
    figures.record(ClientRefused(**WHO, code=9999, reason="why"))
    monotonic.now += 12.0
    cpu.now += 3.0
    found = figures.snapshot()
    assert {name: count for name, count in found.received.items() if count} == {
        "ping": 3,
        "subscribe_execution": 1,
        "other": 2,
    }
    assert (found.messages_received, found.failed) == (6, 1)
    assert (found.uptime, found.messages_per_second) == (12.0, 0.5)
    assert found.handling.mean == pytest.approx(0.003)
    assert {code: count for code, count in found.refused.items() if count} == {"4000": 1, "4293": 2, "other": 1}
    assert (found.cpu_seconds, found.cpu_share) == (3.0, 0.25)
    assert found.peak_memory_bytes > 10_000_000


async def test_subscriptions_rooms_resumes_gaps_and_merges() -> None:
    figures = GatewayMetrics()
    figures.record(ExecutionSubscribed(**WHO, execution_id="e"))
    figures.record(ExecutionUnsubscribed(**WHO, execution_id="e"))
    figures.record(RoomJoined(**WHO, room_id="r"))
    figures.record(RoomJoined(**WHO, room_id="r"))
    figures.record(RoomLeft(**WHO, room_id="r"))
    figures.record(SubscriptionResumed(**WHO, execution_id="e", recovered=True))
    figures.record(SubscriptionResumed(**WHO, execution_id="e", recovered=True))
    figures.record(SubscriptionResumed(**WHO, execution_id="e", recovered=False))
    figures.record(GapReported(**WHO, execution_id="e", reason="evicted"))
    figures.record(GapReported(**WHO, execution_id="e", reason="epoch_changed"))
    figures.record(GapReported(**WHO, execution_id="e", reason="evicted"))
    figures.record(UpdatesMerged(**WHO, updates=40))
    figures.record(UpdatesMerged(**WHO, updates=2))
    figures.record(ClientRefused(**WHO, code=4010, reason="unauthorized"))
    figures.record(ClientRefused(**WHO, code=4011, reason="token_expired"))
    figures.record(ClientRefused(**WHO, code=4030, reason="forbidden"))
    found = figures.snapshot()
    assert (found.subscriptions, found.subscriptions_opened, found.rooms_joined) == (1, 3, 1)
    assert (found.resumes, found.resumes_lost) == (2, 1)
    assert found.gaps == {"evicted": 2, "epoch_changed": 1, "future_position": 0}
    assert (found.merged, found.login_failures) == (42, 2)


async def test_what_was_sent_and_how_long_it_was_on_its_way() -> None:
    wall = Clock(1_000_000.0)
    figures = GatewayMetrics(wall=wall)
    figures.record_page("sse", 1, 100, wall.now - 0.004)
    figures.record_page("sse", 10, 900, wall.now - 0.03)
    figures.record_page("socketio", 500, 60_000)  # history: its age is not measured
    figures.record_page("socketio", 2, 50, wall.now + 5.0)  # a clock was set back
    found = figures.snapshot()
    assert (found.transports["sse"].updates, found.transports["sse"].bytes) == (11, 1_000)
    assert (found.transports["socketio"].updates, found.transports["socketio"].bytes) == (502, 60_050)
    assert found.updates_sent == 513
    assert found.delivery.count == 3
    assert found.delivery.total == pytest.approx(0.034)
    counted = dict(zip([*found.delivery.bounds, None], found.delivery.counts, strict=True))
    assert {bound: count for bound, count in counted.items() if count} == {0.001: 1, 0.005: 1, 0.05: 1}


async def test_a_snapshot_does_not_change_any_more() -> None:
    figures = GatewayMetrics()
    before = figures.snapshot()
    figures.record(ClientConnected(connection_id="", transport="rest"))
    figures.record(ClientRefused(**WHO, code=4030, reason="why"))
    figures.record(GapReported(**WHO, execution_id="e", reason="evicted"))
    assert before.connections == 0
    assert before.refused["4030"] == before.gaps["evicted"] == 0


async def test_a_duration_on_a_bound_is_at_most_that_bound() -> None:
    histogram = Histogram((1.0, 2.0))
    for seconds in (0.5, 1.0, 1.5, 2.0, 99.0):
        histogram.observe(seconds)
    found = histogram.snapshot()
    assert found.counts == (2, 2, 1)
    assert found.cumulative() == (2, 4, 5)
    assert (found.count, found.total) == (5, 104.0)


def test_a_listener_of_events_counts_them_before_an_observer_sees_them() -> None:
    figures = GatewayMetrics()
    counted: list[int] = []
    events = GatewayEvents(lambda _: counted.append(figures.snapshot().connections))
    events.add_listener(figures.record)
    events.notify(ClientConnected(**WHO))
    events.notify(ClientDisconnected(**WHO))
    assert counted == [1, 0]
