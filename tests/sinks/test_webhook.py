"""Webhooks, to a real server that fails and recovers."""

import asyncio
import base64
import hmac
import sys
import time
from collections.abc import Generator
from email.utils import formatdate
from typing import Any

import pytest

from lg_streaming.backoff import Backoff
from lg_streaming.errors import MissingExtraError, SinkError, StreamingConfigError, UnauthorizedError
from lg_streaming.hub import StreamHub
from lg_streaming.sinks import CallbackSink, WebhookSink, verify_webhook
from tests.hub.helpers import MakeHub, publish_many, seqs, soon, until, upto
from tests.sinks.endpoint import Endpoint, endpoint
from tests.support.server import free_socket

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
SOON = Backoff(delay=0.01, jitter=0)


@pytest.fixture
def place() -> Generator[Endpoint]:
    with endpoint() as running:
        yield running


def sink_of(place: Endpoint, **options: Any) -> WebhookSink:
    chosen: dict[str, Any] = {"batch_interval": 0.0, "backoff": SOON, **options}
    return WebhookSink(place.url, **chosen)


def test_an_error_about_a_url_does_not_show_its_password() -> None:
    with pytest.raises(StreamingConfigError) as raised:
        WebhookSink("ftp://user:hunter2@example.com/")
    assert "hunter2" not in str(raised.value)


async def test_batches_say_what_they_hold_and_are_signed(hub: StreamHub, place: Endpoint) -> None:
    publish_many(hub, "e", range(9))
    sink = sink_of(place, secret=SECRET, batch_size=4, headers={"x-tenant": "acme"})
    attachment = hub.attach("e", sink)
    await hub.close("e")
    await soon(attachment.wait())
    assert [delivery.numbers for delivery in place.deliveries] == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11]]
    state = await hub.describe("e")
    assert state is not None
    for delivery in place.deliveries:
        told = verify_webhook(delivery.headers, delivery.body, SECRET)
        assert told == delivery.json
        assert told["execution_id"] == "e"
        assert told["position"] == f"{state.epoch}:{delivery.numbers[-1]}"
        assert "gap" not in told
        assert told["updates"][-1]["metadata"]["epoch"] == state.epoch
        assert delivery.headers["x-tenant"] == "acme"
        assert delivery.headers["content-type"] == "application/json"
    assert len({delivery.id for delivery in place.deliveries}) == 3


async def test_without_a_secret_it_is_not_signed(hub: StreamHub, place: Endpoint) -> None:
    hub.attach("e", sink_of(place))
    hub.publish("e", "token")
    await soon(hub.sinks.flush("e"))
    assert "webhook-signature" not in place.deliveries[0].headers
    assert place.deliveries[0].headers["webhook-id"].startswith("msg_")


async def test_an_endpoint_that_fails_and_recovers_gets_everything(hub: StreamHub, place: Endpoint) -> None:
    place.answer(500, 503, 204, 429, 408, 425)
    sink = sink_of(place, batch_size=5, secret=SECRET)
    attachment = hub.attach("e", sink)
    publish_many(hub, "e", range(18))
    await hub.close("e")
    await soon(attachment.wait())
    assert place.numbers() == upto(20)
    assert (attachment.delivered, attachment.failed, attachment.errors) == (20, 0, 5)
    by_id: dict[str, set[bytes]] = {}
    for delivery in place.deliveries:
        by_id.setdefault(delivery.id, set()).add(delivery.body)
        verify_webhook(delivery.headers, delivery.body, SECRET)
    assert [len(bodies) for bodies in by_id.values()] == [1] * 4, "the same id says the same"


async def test_an_endpoint_that_is_away_gets_everything_when_it_comes(hub: StreamHub) -> None:
    sock = free_socket()
    port = sock.getsockname()[1]
    sock.close()
    got: list[int] = []
    sink = WebhookSink(
        f"http://127.0.0.1:{port}/hook", batch_interval=0.0, attempts=1_000, backoff=Backoff(delay=0.01, max_delay=0.05)
    )
    attachment = hub.attach("e", sink)
    publish_many(hub, "e", range(18))
    await hub.close("e")
    await until(lambda: attachment.errors >= 3)
    assert attachment.active

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        got.append(len(head))
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", port)
    await soon(attachment.wait())
    server.close()
    await server.wait_closed()
    assert (attachment.delivered, attachment.failed) == (20, 0)
    assert got


async def test_no_answer_in_time_is_a_failure_and_tried_again(hub: StreamHub, place: Endpoint) -> None:
    place.silent.set()
    attachment = hub.attach("e", sink_of(place, timeout=0.2))
    hub.publish("e", "token")
    await until(lambda: attachment.errors >= 1)
    place.silent.clear()
    await soon(hub.sinks.flush("e"))
    assert place.numbers() == [1, 2]
    assert attachment.failed == 0


async def test_after_so_many_attempts_a_batch_is_left_out(hub: StreamHub, place: Endpoint) -> None:
    place.answer(500, 500, 500)
    attachment = hub.attach("e", sink_of(place, batch_size=2, attempts=3))
    publish_many(hub, "e", range(3))
    await soon(hub.sinks.flush("e"))
    assert [delivery.numbers for delivery in place.deliveries] == [[1, 2]] * 3 + [[3, 4]]
    assert (attachment.delivered, attachment.failed) == (2, 2)


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 302])
async def test_what_is_refused_is_not_sent_again(
    hub: StreamHub, place: Endpoint, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    place.answer(status, location=place.url)
    attachment = hub.attach("e", sink_of(place), on_error="raise")
    hub.publish("e", "token")
    with pytest.raises(SinkError, match=str(status)):
        await soon(attachment.wait())
    assert len(place.deliveries) == 1
    assert [record.exc_info for record in caplog.records if record.name.startswith("lg_streaming")] == [None]


async def test_410_detaches_it(hub: StreamHub, place: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    place.answer(410)
    attachment = hub.attach("e", sink_of(place))
    hub.publish("e", "token")
    await soon(attachment.wait())
    assert (attachment.reason, len(place.deliveries)) == ("inactive", 1)
    assert [line for line in caplog.messages if "gone (410)" in line]


@pytest.mark.parametrize("form", ["seconds", "date", "past", "nonsense"])
async def test_an_endpoint_is_left_alone_as_long_as_it_asks(hub: StreamHub, place: Endpoint, form: str) -> None:
    asked = {
        "seconds": "1",
        "date": formatdate(time.time() + 2, usegmt=True),  # whole seconds: 1 to 2 from now
        "past": formatdate(time.time() - 60, usegmt=True),
        "nonsense": "soon",
    }[form]
    place.answer(503, retry_after=asked)
    hub.attach("e", sink_of(place))
    hub.publish("e", "token")
    await soon(hub.sinks.flush("e"))
    first, second = place.deliveries
    waited = second.at - first.at
    if form in {"seconds", "date"}:
        assert 0.8 <= waited < 5
    else:
        assert waited < 0.8


async def test_updates_that_follow_closely_share_a_request(hub: StreamHub, place: Endpoint) -> None:
    hub.attach("e", sink_of(place, batch_interval=3_600.0))
    hub.open("e")
    await until(lambda: len(place.deliveries) == 1)
    publish_many(hub, "e", range(50))
    await asyncio.sleep(0.05)
    assert len(place.deliveries) == 1
    await soon(hub.sinks.flush("e"))
    assert [len(delivery.numbers) for delivery in place.deliveries] == [1, 50]


async def test_a_hanging_endpoint_delays_neither_other_sinks_nor_the_end_of_the_hub(
    hub: StreamHub, place: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lg_streaming.hub.attachments._FINISH_TIMEOUT", 0.1)
    place.silent.set()
    got: list[Any] = []
    hub.attach("e", sink_of(place))
    hub.attach("e", CallbackSink(got.append))
    publish_many(hub, "e", range(10))
    await until(lambda: len(got) == 11)
    assert seqs(got) == upto(11)
    await soon(hub.aclose())


async def test_a_gap_is_told(make_hub: MakeHub, place: Endpoint) -> None:
    hub = make_hub(max_updates=2)
    publish_many(hub, "e", range(5))
    hub.attach("e", sink_of(place))
    await soon(hub.sinks.flush("e"))
    (delivery,) = place.deliveries
    assert delivery.json["gap"] == {"from": 1, "to": 4, "reason": "evicted"}
    assert delivery.numbers == [5, 6]


async def test_the_id_is_the_same_whoever_sends_the_same_and_else_another(hub: StreamHub, place: Endpoint) -> None:
    publish_many(hub, "e", range(5))
    publish_many(hub, "f", range(5))
    for execution_id, name in (("e", "a"), ("e", "b"), ("f", "a")):
        hub.attach(execution_id, sink_of(place, id=name))
        await soon(hub.sinks.flush(execution_id))
    hub.attach("e", sink_of(place, id="c", batch_size=5))
    await soon(hub.sinks.flush("e"))
    one, again, other, smaller, rest = [delivery.id for delivery in place.deliveries]
    assert one == again
    assert len({one, other, smaller, rest}) == 4


def test_a_webhook_works_without_a_loop(place: Endpoint) -> None:
    hub = StreamHub()
    attachment = hub.attach("e", sink_of(place))
    publish_many(hub, "e", range(3))
    asyncio.run(hub.close("e"))
    attachment.join(10)
    assert place.numbers() == upto(5)
    asyncio.run(hub.aclose())


async def test_a_shared_webhook_serves_one_loop_only(hub: StreamHub, place: Endpoint) -> None:
    sink = sink_of(place)
    hub.publish("e", "token")
    hub.attach("e", sink, shared=True)
    await soon(hub.sinks.flush("e"))
    hub.publish("f", "token")
    elsewhere = await asyncio.to_thread(hub.attach, "f", sink, shared=True, on_error="raise")
    with pytest.raises(SinkError, match="one event loop"):
        await soon(elsewhere.wait())
    await sink.aclose()


async def test_it_is_not_left_alone_for_longer_than_is_sensible(
    hub: StreamHub, place: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lg_streaming.sinks.webhook._MAX_RETRY_AFTER", 0.05)
    place.answer(503, 503, retry_after="86400")
    place.answer(503, retry_after=formatdate(time.time() + 86_400, usegmt=True))
    hub.attach("e", sink_of(place))
    hub.publish("e", "token")
    await soon(hub.sinks.flush("e"))
    assert place.numbers() == [1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "ftp://example.com"}, "http"),
        ({"url": "http://"}, "http"),
        ({"url": "http://example.com/a\nb"}, "control codes"),
        ({"url": "http://example.com/\x1b]8;;x"}, "control codes"),
        ({"secret": "short"}, "whsec_"),
        ({"secret": "whsec_***"}, "Base64"),
        ({"secret": b"short"}, "16 bytes"),
        ({"secret": []}, "16 bytes"),
        ({"batch_size": 0}, "batch_size"),
        ({"timeout": 0}, "timeout"),
        ({"attempts": 0}, "attempts"),
        ({"batch_interval": -1}, "interval"),
    ],
    ids=repr,
)
def test_what_cannot_be_used_is_refused(options: dict[str, Any], message: str) -> None:
    chosen: dict[str, Any] = {"url": "http://127.0.0.1/", **options}
    with pytest.raises(StreamingConfigError, match=message):
        WebhookSink(**chosen)


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(MissingExtraError, match=r"lg-streaming\[client\]"):
        WebhookSink("http://127.0.0.1/")


def test_its_id_does_not_tell_what_is_in_the_url_beside_the_place() -> None:
    sink = WebhookSink("https://user:word@example.com:8443/hook?key=secret")
    assert sink.id == "webhook-https://example.com:8443/hook"


# ---------------------------------------------------------------- signatures
# The example that the specification's own libraries test with.
EXAMPLE: dict[str, Any] = {
    "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "headers": {
        "Webhook-Id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "Webhook-Timestamp": "1614265330",
        "Webhook-Signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    },
    "body": b'{"test": 2432232314}',
}


def verify(at: float = 1_614_265_330, **changes: Any) -> dict[str, Any]:
    given = {**EXAMPLE, **changes}
    return verify_webhook(given["headers"], given["body"], given["secret"], clock=lambda: at)


def test_the_example_of_the_specification_is_good() -> None:
    assert verify() == {"test": 2432232314}
    key = base64.b64decode(EXAMPLE["secret"].removeprefix("whsec_"))
    assert verify(secret=key) == verify(secret=[b"x" * 24, key]) == verify()
    signature = EXAMPLE["headers"]["Webhook-Signature"]
    assert verify(headers={**EXAMPLE["headers"], "Webhook-Signature": f"v1a,nothing v1,AAAA {signature}"}) == verify()


@pytest.mark.parametrize(
    "changes",
    [
        {"body": b'{"test": 2432232315}'},
        {"secret": b"another secret of 24 byte"},
        {"at": 1_614_265_330 + 301},
        {"at": 1_614_265_330 - 301},
        *[{"headers": {**EXAMPLE["headers"], "Webhook-Id": name}} for name in ("", "msg_x", "\udcff")],
        *[
            {"headers": {**EXAMPLE["headers"], "Webhook-Timestamp": at}}
            for at in ("1614265331", "", "x", "9" * 99, "٣")
        ],
        *[
            {"headers": {**EXAMPLE["headers"], "Webhook-Signature": signature}}
            for signature in ("", "v1,", "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "\udcff", "é")
        ],
        *[
            {"headers": {name: value for name, value in EXAMPLE["headers"].items() if name != left}}
            for left in EXAMPLE["headers"]
        ],
    ],
    ids=repr,
)
def test_what_is_not_signed_now_with_the_secret_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UnauthorizedError):
        verify(**changes)


async def test_while_one_secret_takes_over_from_another_either_verifies(hub: StreamHub, place: Endpoint) -> None:
    old, new = b"o" * 32, b"n" * 32
    hub.attach("e", sink_of(place, secret=[new, old]))
    hub.publish("e", "token")
    await soon(hub.sinks.flush("e"))
    (delivery,) = place.deliveries
    assert verify_webhook(delivery.headers, delivery.body, old) == verify_webhook(delivery.headers, delivery.body, new)
    by_hand = hmac.digest(
        old, b".".join([delivery.id.encode(), delivery.headers["webhook-timestamp"].encode(), delivery.body]), "sha256"
    )
    assert f"v1,{base64.b64encode(by_hand).decode()}" in delivery.headers["webhook-signature"].split()
