"""Messages that a client should not send: a clear answer, no traceback in the log, no other client disturbed."""

import asyncio
import json
from collections.abc import Generator
from typing import Any

import pytest

from tests.gateway.site import Site, raw_client, site


@pytest.fixture(scope="module")
def open_site() -> Generator[Site]:
    """One server for all: none of this may harm it."""
    with site() as running:
        yield running


async def empty(place: Site) -> None:
    """Wait until no client is connected."""
    async with asyncio.timeout(5):
        while place.gateway.connections:
            await asyncio.sleep(0.01)


MALFORMED = {
    "not an event": '42{"a":1}',
    "empty event": "42[]",
    "name is a number": "42[7]",
    "name is null": "42[null]",
    "name is a list": '42[["ping"]]',
    "no JSON": "42[",
    "half a string": '42["ping',
    "trailing text": '42["ping"]x',
    "NaN": "42[NaN]",
    "no packet": "4",
    "no type": "4x",
    "unknown type": "49",
    "unknown engine.io type": "9",
    "empty": "",
    "open": "0{}",
    "ping from the client": "2probe",
    "upgrade": "5",
    "noop": "6",
    "base64": "bAAAA",
    "binary event": '451-["upload",{"_placeholder":true,"num":0}]',
    "many attachments": '459999999999-["upload"]',
    "too many attachments": '4599999999999999-["upload"]',
    "binary answer": '461-7[{"_placeholder":true,"num":0}]',
    "answer nobody asked for": '437["x"]',
    "connect error": '44{"message":"no"}',
    "second connect": "40",
    "another namespace": '42/admin,["ping"]',
    "disconnect of another namespace": "41/admin,",
    "endless id": "42" + "9" * 200 + '["ping"]',
    "deep": "42" + "[" * 40 + "]" * 40,
    "deep payload": '42["ping",' + '{"a":' * 40 + "1" + "}" * 40 + "]",
    "very deep": "42" + "[" * 30_000,
    "lone surrogate": '42["\\ud800"]',
}


@pytest.mark.parametrize("frame", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_malformed_message_is_answered_and_the_third_closes(open_site: Site, frame: str) -> None:
    async with raw_client(open_site) as client:
        for _ in range(2):
            await client.send(frame)
            error = await client.event("error")
            assert (error["code"], error["name"], error["retryable"]) == (4000, "bad_request", False)
            assert error["message"]
        assert (await client.ask("ping"))["ok"]
        await client.send(frame)
        code, before = await client.closed()
        assert code == 4000
        assert before[-1] == "41"


async def test_binary_messages_are_refused(open_site: Site) -> None:
    async with raw_client(open_site) as client:
        for _ in range(3):
            await client.send(b"\x04\x00binary")
        code, before = await client.closed()
        assert code == 4000
        assert sum(text.startswith('42["error"') for text in before) == 3


BAD_PAYLOADS: dict[str, list[Any]] = {
    "no payload": ["subscribe_execution"],
    "null": ["subscribe_execution", None],
    "text": ["subscribe_execution", "exec-1"],
    "list": ["subscribe_execution", ["exec-1"]],
    "two": ["subscribe_execution", {"execution_id": "a"}, {}],
    "no id": ["subscribe_execution", {"events": ["token"]}],
    "empty id": ["subscribe_execution", {"execution_id": ""}],
    "id is an object": ["subscribe_execution", {"execution_id": {"$ne": 1}}],
    "merge": ["subscribe_execution", {"execution_id": "a", "merge": "yes"}],
    "room": ["join_room", {"room_id": "a b"}],
    "rooms": ["join_room", {"room_id": ["a"]}],
    "events": ["subscribe_events", {"executions": "acme/*"}],
    "ack": ["ack", {"execution_id": "a", "position": "e:1"}],
    "unknown": ["shout", {}],
    "prototype": ["__proto__", {}],
    "underscore": ["_authenticate", {}],
    "empty name": [""],
    "long name": ["x" * 10_000],
}


@pytest.mark.parametrize("message", BAD_PAYLOADS.values(), ids=BAD_PAYLOADS.keys())
async def test_a_bad_payload_is_answered_where_an_answer_was_asked_for(open_site: Site, message: list[Any]) -> None:
    async with raw_client(open_site) as client:
        await client.send("421" + json.dumps(message))
        answer = json.loads((await client.until("431"))[3:])[0]
        assert answer["ok"] is False
        assert answer["error"]["code"] == 4000
        await client.send("42" + json.dumps(message))
        assert (await client.event("error"))["code"] == 4000


HOSTILE_IDS = [
    ".",
    "..",
    "a b",
    " ",
    "a\n",
    "a\r\nevent: x",
    "a\x00b",
    "\x7f",
    "\u202e",
    "x" * 257,
    "x" * 1024,
    "\t",
    "\u2028",
]


@pytest.mark.parametrize("execution_id", HOSTILE_IDS)
async def test_hostile_ids_are_refused(open_site: Site, execution_id: str) -> None:
    async with raw_client(open_site) as client:
        answer = await client.ask("subscribe_execution", {"execution_id": execution_id})
        assert answer["error"]["code"] == 4000


@pytest.mark.parametrize(
    "execution_id", ["...", "../../etc/passwd", "*", "**", "a/*", "%2e%2e", "<script>", "'--", "x" * 256]
)
async def test_odd_ids_are_only_names(open_site: Site, execution_id: str) -> None:
    open_site.tokens("exec-1", 3)
    async with raw_client(open_site) as client:
        answer = await client.ask("subscribe_execution", {"execution_id": execution_id})
        assert answer["ok"]
        assert answer["state"] == "unknown"


@pytest.mark.parametrize(
    "name", ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"]
)
async def test_a_reserved_name_closes_at_once(open_site: Site, name: str) -> None:
    async with raw_client(open_site) as client:
        await client.send(f'42["{name}",{{"token":"forged"}}]')
        code, before = await client.closed()
        assert code == 4000
        assert '"code":4000' in before[0]
    await empty(open_site)


async def test_a_large_message_closes(open_site: Site) -> None:
    async with raw_client(open_site) as client:
        await client.send('42["ping","' + "x" * 60_000 + '"]')
        assert (await client.event("error"))["code"] == 4000
        await client.send('42["ping","' + "x" * 65_530 + '"]')
        code, before = await client.closed()
        assert code in {4130, 1009}  # uvicorn's own limit may be the first to notice
        assert not before or '"code":4130' in before[0]


async def test_our_own_limit_is_said_where_the_server_lets_more_through() -> None:
    with site(uvicorn={"ws_max_size": 16 * 1024 * 1024}, limits={"inbound_bytes": 1_000}) as place:
        async with raw_client(place) as client:
            await client.send('42["ping","' + "é" * 600 + '"]')
            code, before = await client.closed()
            assert code == 4130
            assert '"code":4130' in before[0]
        async with raw_client(place) as client:
            await client.send("4" * 100_000)
            assert (await client.closed())[0] == 1009


async def test_too_many_messages() -> None:
    with site(limits={"messages_per_second": 1, "message_burst": 3}) as place:
        async with raw_client(place) as client:
            for _ in range(3):
                assert (await client.ask("ping"))["ok"]
            answer = await client.ask("ping")
            assert answer["error"]["code"] == 4293
            assert answer["error"]["retryable"]
            assert 0 < answer["error"]["retry_after_ms"] <= 1_000
            await client.send('42["ping"]')
            await client.send('42["ping"]')
            code, before = await client.closed()
            assert code == 4293
            assert "41" not in before  # a client may come back by itself


# ---------------------------------------------------------------- before the login
BEFORE_LOGIN = [
    '42["ping"]',
    '421["subscribe_execution",{"execution_id":"a"}]',
    "41",
    "9",
    "4",
    "44",
    '451-["x",{"_placeholder":true}]',
    "42" + "[" * 500,
]


@pytest.mark.parametrize("frame", BEFORE_LOGIN)
async def test_anything_but_a_login_closes_a_new_transport(open_site: Site, frame: str) -> None:
    async with raw_client(open_site, login=False) as client:
        await client.send(frame)
        assert (await client.closed())[0] == 4000


@pytest.mark.parametrize("auth", ["[1]", '"x"', "true", '{"token":{}}', '{"token":["a"]}'])
async def test_a_login_of_another_shape_is_refused_and_the_transport_closed(open_site: Site, auth: str) -> None:
    async with raw_client(open_site, login=False) as client:
        await client.send("40" + auth)
        _, before = await client.closed()
        refusal = json.loads(before[0].removeprefix("44"))
        assert refusal["data"]["code"] in {4000, 4010}
    await empty(open_site)


async def test_a_refused_login_gets_one_try_a_transport() -> None:
    with site(auth={"secret": "x" * 32}) as place:
        async with raw_client(place, login=False) as client:
            for _ in range(5):
                await client.send('40{"token":"a.b.c"}')
            _, before = await client.closed()
            assert [text[:2] for text in before] == ["44"]
            assert json.loads(before[0][2:])["data"]["code"] == 4010


async def test_another_namespace_is_refused_and_the_transport_closed(open_site: Site) -> None:
    async with raw_client(open_site, login=False) as client:
        await client.send("40/admin,")
        _, before = await client.closed()
        assert before[0].startswith("44/admin,")


async def test_a_transport_that_never_logs_in_is_closed() -> None:
    with site(limits={"login_timeout": 0.2}) as place:
        async with raw_client(place, login=False) as client:
            assert (await client.closed())[0] == 4080
        async with raw_client(place) as client:
            await asyncio.sleep(0.4)
            assert (await client.ask("ping"))["ok"]


async def test_a_client_that_says_goodbye_is_let_go(open_site: Site) -> None:
    for goodbye in ("41", "1"):
        async with raw_client(open_site) as client:
            await client.send(goodbye)
            assert (await client.closed())[0] == 1000


async def test_a_peer_that_does_not_answer_pings_is_dead() -> None:
    with site(gateway={"ping_interval": 0.1, "ping_timeout": 0.2}) as place:
        async with raw_client(place) as client:
            code, before = await client.closed()
            assert code == 4401
            assert before == ["2"]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "EIO=4",
        "EIO=3&transport=websocket",
        "EIO=4&transport=polling",
        "EIO=4&transport=websocket&sid=nobody",
        "EIO=4&transport=websocket&j=x",
        "transport=websocket&EIO=%00",
    ],
)
async def test_other_ways_to_speak_engine_io_are_refused(
    open_site: Site, query: str, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await asyncio.open_connection(open_site.server.host, open_site.server.port)
    host = f"localhost:{open_site.server.port}"
    writer.write(f"GET /socket.io/?{query} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 404", b"HTTP/1.1 307"))
    assert not [record for record in caplog.records if record.exc_info]
    caplog.clear()  # python-engineio logs such a request once, as an error
