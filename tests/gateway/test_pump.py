"""The pump of one subscription: its position while a page is sent, and its warning of an outage of the log."""

import asyncio

import pytest

from lg_streaming.backoff import Backoff
from lg_streaming.errors import LogUnavailableError, StreamingError
from lg_streaming.gateway.delivery.frames import FrameCache, Frames, web_socket_frame
from lg_streaming.gateway.delivery.pump import DeliveryOptions, SubscriptionPump
from lg_streaming.gateway.delivery.ticker import BatchTicker
from lg_streaming.gateway.transports.websocket import EncodeEach
from lg_streaming.hub import Gap, StreamHub, Subscription
from lg_streaming.hub.carry import carry
from lg_streaming.log.base import ReadResult
from lg_streaming.log.memory import MemoryLog
from tests.hub.helpers import soon, until


class Client:
    """A frame sink and its observer. It takes frames only while `reads` is set."""

    def __init__(self) -> None:
        self.reads = asyncio.Event()
        self.reads.set()
        self.writing = asyncio.Event()
        self.sent_events: list[str] = []
        self.failures: list[str] = []
        self.updates = 0

    async def wait_writable(self) -> bool:
        return False

    async def write(self, frames: Frames) -> None:
        self.writing.set()
        await self.reads.wait()

    async def send_event(self, event: str, payload: dict[str, object]) -> None:
        self.sent_events.append(event)

    def limit_buffer(self) -> None: ...

    def sent(self, execution_id: str, updates: int, size: int, newest: float | None) -> None:
        self.updates += updates

    def gap(self, execution_id: str, gap: Gap) -> None: ...

    def merged(self, count: int) -> None: ...

    def failed(self, error: StreamingError) -> None:
        self.failures.append(error.name)


def pump_of(subscription: Subscription, client: Client) -> SubscriptionPump:
    return SubscriptionPump(
        subscription,
        EncodeEach(web_socket_frame),
        client,
        options=DeliveryOptions(),
        cache=FrameCache(),
        observer=client,
    )


async def test_a_page_that_is_not_sent_yet_does_not_count() -> None:
    hub, client = StreamHub(), Client()
    client.reads.clear()
    subscription = hub.subscribe("e", types=["note"])
    hub.publish("e", "note")
    hub.publish("e", "note")
    pump = pump_of(subscription, client)
    sending = asyncio.create_task(carry(subscription, pump, pace=BatchTicker(0.0)))
    await soon(client.writing.wait())
    assert subscription.position is not None
    assert pump.position is not None
    assert (subscription.position.seq, pump.position.seq) == (3, 1)  # past the status, which the filter left out
    client.reads.set()
    await until(lambda: pump.position == subscription.position)
    await hub.close("e")
    assert (await soon(sending)).ended
    assert not subscription.closed
    await hub.aclose()


async def test_an_outage_of_the_log_is_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lg_streaming.hub.carry.LOG_BACKOFF", Backoff(delay=0.0))
    log, client = MemoryLog(), Client()
    hub = StreamHub(log=log)
    failures = iter([True, True, True])
    stored = log.read

    async def read(execution_id: str, after: int, limit: int) -> ReadResult | None:
        if next(failures, False):
            raise LogUnavailableError
        return await stored(execution_id, after, limit)

    hub.open("e")
    await hub.close("e")
    subscription = hub.subscribe("e")
    await subscription.start()
    monkeypatch.setattr(log, "read", read)
    assert (await soon(carry(subscription, pump_of(subscription, client)))).ended
    assert not subscription.closed
    assert client.updates == 2
    assert client.failures == ["log_unavailable"]
    assert client.sent_events == ["error"]
    await hub.aclose()
