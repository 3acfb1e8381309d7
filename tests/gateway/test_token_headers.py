"""Tokens in headers of another name, which clients of other systems send in place of `Authorization`."""

import asyncio
import json
import logging
from collections.abc import Generator
from typing import Any

import httpx2
import pytest
from pydantic import ValidationError
from websockets.asyncio.client import connect

from lg_streaming.errors import UnauthorizedError
from lg_streaming.gateway.auth.policy import Policy
from lg_streaming.settings import AuthSettings
from tests.gateway.site import Site, raw_client, site
from tests.gateway.tokens import SECRET, peer, secret_policy, token


@pytest.fixture(scope="module")
def place() -> Generator[Site]:
    with site(auth={"secret": SECRET}, gateway={"cors_origins": ["https://app.example.com"]}) as running:
        running.hub.open("his", owner="alice")
        running.hub.publish("his", "token", {"content": "hello"})
        asyncio.run(running.hub.close("his"))
        yield running


@pytest.mark.parametrize("prefix", ["", "Bearer ", "bearer  "])
async def test_a_token_may_be_in_a_header_of_another_name(prefix: str) -> None:
    assert (await secret_policy().authenticate(peer(x_api_key=prefix + token()))).subject == "alice"


async def test_authorization_wins_and_the_cookie_comes_last() -> None:
    cookie = f"lg_streaming_token={token(sub='carol')}"
    both = peer(authorization=f"Bearer {token(sub='bob')}", x_api_key=token(), cookie=cookie)
    assert (await secret_policy().authenticate(both)).subject == "bob"
    assert (await secret_policy().authenticate(peer(x_api_key=token(), cookie=cookie))).subject == "alice"
    named = secret_policy(headers=["X-One", "X-Two"])
    caller = peer(x_api_key=token(), x_two=token(sub="two"), x_one=token(sub="one"))
    assert (await named.authenticate(caller)).subject == "one"


@pytest.mark.parametrize(
    "key", ["lsv2_pt_0123456789", "", "a.b", "a.b.c.d", f"{token()},{token()}", f"Basic {token()}"]
)
async def test_a_key_that_is_no_token_does_no_harm(key: str) -> None:
    cookie = f"lg_streaming_token={token(sub='carol')}"
    assert (await secret_policy().authenticate(peer(x_api_key=key, cookie=cookie))).subject == "carol"
    with pytest.raises(UnauthorizedError, match="a token is required"):
        await secret_policy().authenticate(peer(x_api_key=key))


async def test_no_header_counts_that_is_not_listed() -> None:
    for policy, caller in (
        (secret_policy(headers=[]), peer(x_api_key=token())),
        (secret_policy(headers=["x-other"]), peer(x_api_key=token())),
        (secret_policy(), peer(x_other=token())),
        (secret_policy(), peer(x_api_key=token("another secret of thirty-two bytes and more"))),
    ):
        with pytest.raises(UnauthorizedError):
            await policy.authenticate(caller)


async def test_the_header_is_no_sign_of_a_proxy() -> None:
    assert (await Policy(AuthSettings()).authenticate(peer(x_api_key="lsv2_pt_1"))).subject is None


@pytest.mark.parametrize(
    "name",
    ["Cookie", "authorization", "Origin", "referer", "host", "Sec-WebSocket-Protocol", "proxy-authorization", ""],
)
def test_headers_that_browsers_send_by_themselves_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        AuthSettings(headers=(name,))


async def test_every_transport_reads_the_header(place: Site, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("lg_streaming", "uvicorn.access", "socketio", "engineio"):
        caplog.set_level(logging.DEBUG, name)
    secret = token()
    headers = {"X-API-Key": secret}
    async with httpx2.AsyncClient(headers=headers) as http:
        page: Any = (await http.get(f"{place.url}/executions/his/updates")).json()
        stream = await http.get(f"{place.url}/executions/his/stream")
        ticket = await http.post(f"{place.url}/tickets", json={})
    assert page["updates"][0]["type"] == "workflow_start"
    assert stream.status_code == 200
    assert "hello" in stream.text
    assert ticket.status_code == 201
    async with raw_client(place, headers=headers) as client:
        answer = await client.ask("subscribe_execution", {"execution_id": "his"})
        assert answer["execution_id"] == "his", answer
    async with connect(f"{place.server.ws_url}/ws", additional_headers=headers) as socket:
        await socket.send(json.dumps({"type": "subscribe_execution", "payload": {"execution_id": "his"}}))
        async with asyncio.timeout(5):
            while b"hello" not in (message := await socket.recv(decode=False)):
                assert b'"error"' not in message
    assert secret.rpartition(".")[2] not in caplog.text


async def test_a_page_of_another_origin_may_send_it(place: Site) -> None:
    origin = {"Origin": "https://app.example.com"}
    asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "x-api-key"}
    async with httpx2.AsyncClient() as http:
        preflight = await http.options(f"{place.url}/executions/his/updates", headers={**origin, **asked})
        assert "x-api-key" in preflight.headers["access-control-allow-headers"].lower()
        answer = await http.get(f"{place.url}/executions/his/updates", headers={**origin, "X-Api-Key": token()})
        assert answer.status_code == 200
        evil = {"Origin": "https://evil.example.com", "X-Api-Key": token()}
        assert (await http.get(f"{place.url}/executions/his/updates", headers=evil)).status_code == 403


def test_a_peer_in_a_log_shows_no_header() -> None:
    assert token() not in repr(peer(authorization=f"Bearer {token()}", x_api_key=token()))
