"""Credentials in an address: a ticket is void once it came, a token is refused by one code, and neither is logged."""

import asyncio
import json
import logging
from collections.abc import Generator
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect

from lg_streaming.gateway.auth.policy import ANONYMOUS, Policy
from lg_streaming.gateway.auth.tickets import Tickets
from lg_streaming.gateway.auth.url_credentials import credentials_in, take_credentials
from lg_streaming.settings import AuthSettings
from tests.gateway.site import SECRET, Site, raw_client, site
from tests.gateway.tokens import token

SECRETS = (
    "token=s3cret-a",
    "access_token=s3cret-a",
    "TOKEN=s3cret-a",
    "%74oken=s3cret-a",
    "id_token=s3cret-a",
    "t=eyJhbGciOiJub25lIn0.s3cret-a.",
    "after=1&x=Bearer%20eyJhbGciOiJub25lIn0.s3cret-a.abc",
)
LOGGED: dict[str, Any] = {"access_log": True, "log_level": "info"}


@pytest.fixture
def place() -> Generator[Site]:
    with site(auth={"secret": SECRET}, uvicorn=LOGGED) as running:
        running.hub.open("e", owner="alice")
        running.hub.publish("e", "note", {"text": "for alice"})
        yield running


def bearer(sub: str = "alice") -> dict[str, str]:
    return {"Authorization": f"Bearer {token(sub=sub)}"}


def ticket(place: Site) -> str:
    """A ticket of alice."""
    principal = asyncio.run(place.gateway.policy.verify(token()))
    return place.gateway.policy.tickets.issue(principal)[0]


def logged(caplog: pytest.LogCaptureFixture) -> str:
    """Return the log records of the server's side, without those of the test's client."""
    return "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("http"))


# ---------------------------------------------------------------- tokens
@pytest.mark.parametrize("secret", SECRETS)
async def test_a_token_in_an_address_is_refused_everywhere_by_one_code_and_not_logged(
    place: Site, secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    paths = ("/executions", "/executions/e", "/executions/e/updates", "/executions/e/stream", "/health", "/ws")
    async with httpx2.AsyncClient(base_url=place.url, headers=bearer()) as http:
        for path in (*paths, "/socket.io/", "/lg-streaming.js", "/health/live"):
            answer = await http.get(f"{path}?{secret}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, 4000), path
        assert (await http.post(f"/tickets?{secret}", json={})).json()["error"]["code"] == 4000
        assert (await http.delete(f"/executions/e?{secret}")).json()["error"]["code"] == 4000
        assert (await http.options(f"/executions?{secret}")).status_code == 204
    async with connect(f"{place.server.ws_url}/ws?{secret}", additional_headers=bearer()) as socket:
        refused = json.loads(await socket.recv())
        assert (refused["type"], refused["payload"]["code"]) == ("error", 4000)
    address = f"{place.server.ws_url}/socket.io/?EIO=4&transport=websocket&{secret}"
    async with connect(address, additional_headers=bearer()) as socket:
        await socket.recv()
        await socket.send("40")
        refused = json.loads((await until(socket, "44"))[2:])
        assert refused["data"]["code"] == 4000
    text = logged(caplog)
    assert "GET /executions?" in text  # the access log is on, and has these requests
    assert "/ws?" in text
    assert "/socket.io/?EIO=4" in text
    assert "s3cret" not in text
    assert place.hub.registry.is_running("e")


async def until(socket: Any, start: str) -> str:
    async with asyncio.timeout(20):
        while not (message := str(await socket.recv())).startswith(start):
            pass
    return message


async def test_a_token_of_socket_io_in_its_handshake_is_no_token_in_an_address(place: Site) -> None:
    async with raw_client(place, auth={"token": token()}) as client:
        assert (await client.ask("get_status"))["ok"]


# ---------------------------------------------------------------- tickets
@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/executions/e/stream?ticket=T&since=yesterday", {}, 400),
        ("/executions/e/stream?ticket=T", {"Origin": "https://evil.example.com"}, 403),
        ("/executions/e/stream?ticket=T", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("/executions/e/stream?ticket=T&token=x", {}, 400),
        ("/executions/%20/stream?ticket=T", {}, 400),
        ("/executions/bobs/stream?ticket=T", {}, 403),
        ("/executions/e?ticket=T", bearer(), 400),
        ("/executions?ticket=T", {}, 400),
        ("/health?ticket=T", {}, 200),
        ("/ws?ticket=T", {}, 426),
        ("/socket.io/?EIO=4&transport=polling&ticket=T", {}, 400),
    ],
)
async def test_a_ticket_that_came_is_void_whatever_refuses_the_request(
    place: Site, path: str, headers: dict[str, str], status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    mine = await asyncio.to_thread(ticket, place)
    async with httpx2.AsyncClient(base_url=place.url) as http:
        answer = await http.get(path.replace("=T", f"={mine}"), headers=headers)
        assert answer.status_code == status
        assert len(place.gateway.policy.tickets) == 0
        again = await http.get(f"/executions/e/stream?ticket={mine}")
        assert (again.status_code, again.json()["error"]["code"]) == (401, 4010)
    assert "ticket=***" in logged(caplog)
    assert mine not in logged(caplog)
    caplog.clear()  # python-engineio logs a request without WebSocket once, as an error


async def test_a_ticket_is_void_when_an_address_connects_too_often() -> None:
    limits = {"connects_per_address": "1/hour"}
    with site(auth={"secret": SECRET}, limits=limits) as place:
        place.hub.open("e", owner="alice")
        async with httpx2.AsyncClient(base_url=place.url) as http:
            codes: list[int] = []
            for _ in range(3):
                mine = await asyncio.to_thread(ticket, place)
                answer = await http.head(f"/executions/e/stream?ticket={mine}")
                codes.append(answer.status_code)
                assert len(place.gateway.policy.tickets) == 0
            assert codes == [200, 429, 429]


async def test_a_preflight_uses_no_ticket_and_is_not_logged_with_it(
    place: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    mine = await asyncio.to_thread(ticket, place)
    async with httpx2.AsyncClient(base_url=place.url) as http:
        assert (await http.options(f"/executions/e/stream?ticket={mine}")).status_code == 204
        assert (await http.head(f"/executions/e/stream?ticket={mine}")).status_code == 200
    assert mine not in logged(caplog)


async def test_a_ticket_opens_a_web_socket_once_and_no_socket_io(place: Site) -> None:
    mine = await asyncio.to_thread(ticket, place)
    address = f"{place.server.ws_url}/ws?ticket={mine}"
    async with connect(address) as socket:
        assert json.loads(await socket.recv())["payload"]["status"] == "connected"
    async with connect(address) as socket:
        assert json.loads(await socket.recv())["payload"]["code"] == 4010
    mine = await asyncio.to_thread(ticket, place)
    async with connect(f"{place.server.ws_url}/socket.io/?EIO=4&transport=websocket&ticket={mine}") as socket:
        await socket.send("40")
        assert json.loads((await until(socket, "44"))[2:])["data"]["code"] == 4000
    assert len(place.gateway.policy.tickets) == 0


async def test_nothing_else_of_a_query_changes() -> None:
    use = Policy(AuthSettings()).use_ticket
    scope: dict[str, Any] = {"query_string": b"a=1&ticket=x&&b=%2F&ticket=y&c&auth=1&last=%ff"}
    found = await take_credentials(use, scope)
    assert scope["query_string"] == b"a=1&ticket=***&&b=%2F&ticket=***&c&auth=***&last=%ff"
    assert found.token_name == "auth"
    assert await take_credentials(use, scope) is found
    plain: dict[str, Any] = {"query_string": b"after=1:2&cursor=gAAAAA"}
    await take_credentials(use, plain)
    assert plain["query_string"] == b"after=1:2&cursor=gAAAAA"
    assert credentials_in({}).ticket is None


def test_a_step_of_the_wall_clock_makes_no_ticket_older_or_younger() -> None:
    wall, monotonic = [1_000_000.0], [50.0]
    tickets = Tickets(clock=lambda: wall[0], monotonic=lambda: monotonic[0])
    principal = ANONYMOUS
    kept, late = tickets.issue(principal)[0], tickets.issue(principal)[0]
    wall[0] += 86_400
    assert tickets.use(kept).principal == principal
    wall[0] -= 3 * 86_400
    monotonic[0] += 30
    assert tickets.use(late).principal is None
