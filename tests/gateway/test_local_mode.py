"""Without authentication only callers on this machine are let in, and what shows a proxy is not taken for one."""

import asyncio
import json
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from websockets.asyncio.client import connect

from lg_streaming.errors import OriginError, UnauthorizedError
from lg_streaming.gateway import sse_response
from lg_streaming.gateway.auth.peer import Peer
from lg_streaming.gateway.auth.policy import ANONYMOUS, Policy
from lg_streaming.hub import StreamHub
from lg_streaming.settings import AuthSettings, StreamingSettings
from tests.docs.fences import blocks_of
from tests.gateway.site import SECRET, Site, raw_client, site
from tests.gateway.tokens import token
from tests.support.nginx import nginx, nginx_program
from tests.support.server import serve
from tests.support.tcp_proxy import tcp_proxy

HERE = ("127.0.0.1", 8000)

needs_nginx = pytest.mark.skipif(nginx_program() is None, reason="nginx is not installed: make tools")


def caller(*, http_version: str = "1.1", server: tuple[str, int | None] | None = HERE, **headers: str) -> Peer:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Peer(
        address="127.0.0.1",
        headers={"host": "localhost:8000", **names},
        http_version=http_version,
        server=server,
    )


# ---------------------------------------------------------------- what a request shows
@pytest.mark.parametrize(
    "peer",
    [
        caller(),
        caller(host="127.0.0.1:8000"),
        caller(host="[::1]:8000", server=("::1", 8000)),
        caller(host="127.0.0.1:8000", server=("::ffff:127.0.0.1", 8000)),
        caller(host="LOCALHOST:8000"),
        caller(host="app.localhost:8000"),
        caller(host="localhost", server=("127.0.0.1", 80)),
        caller(host="localhost.:80", server=("127.0.0.1", 80)),
        caller(host="127.9.9.9", server=("127.9.9.9", 80)),
        caller(http_version="2"),
        caller(connection="Upgrade", upgrade="websocket"),
        caller(connection="close"),
        caller(sec_fetch_site="same-origin", referer="http://localhost:5173/page"),
        caller(sec_fetch_site="none", sec_fetch_mode="navigate"),
        caller(origin="http://localhost:8000", sec_fetch_site="same-origin"),
        caller(x_client_info="supabase-js", x_requested_with="XMLHttpRequest"),
        caller(x_request_id="1", traceparent="00-1-2-01"),
    ],
)
async def test_a_direct_caller_on_this_machine_is_let_in(peer: Peer) -> None:
    assert await Policy(AuthSettings()).authenticate(peer) == ANONYMOUS


@pytest.mark.parametrize(
    ("peer", "reason"),
    [
        *((caller(http_version=version), "proxy") for version in ("1.0", "0.9")),
        *(
            (caller(http_version="1.1", server=HERE, **{name: "1"}), "proxy")
            for name in (
                "x_forwarded_for",
                "x_forwarded_prefix",
                "x_real_ip",
                "x_client_ip",
                "x_original_host",
                "x_envoy_external_address",
                "x_amzn_trace_id",
                "cf_ray",
                "cdn_loop",
                "forwarded",
                "via",
                "x_forwarded_ssl",
                "x_forward_for",
                "true_client_ip",
                "fly_client_ip",
                "x_varnish",
                "x_remote_addr",
                "proxy_connection",
                "ngrok_trace_id",
            )
        ),
        (caller(connection="upgrade"), "proxy"),
        (caller(sec_fetch_site="same-origin", referer="https://chat.example.com/"), "proxy"),
        (caller(host="localhost:8000,evil.example.com"), "Host"),
        (caller(host="localhost:8000@evil.example.com"), "Host"),
        (caller(host="localhost:port"), "Host"),
        (caller(host="127.0.0.1.example.com:8000"), "Host"),
        (caller(host="[::1]evil:8000"), "Host"),
        (caller(host=""), "Host"),
        (caller(host="localhost"), "own name and port"),
        (caller(host="localhost:8001"), "own name and port"),
        (caller(host="localhost:80"), "own name and port"),
        (caller(host="127.0.0.2:8000"), "own name and port"),
        (caller(host="[::1]:8000"), "own name and port"),
        (caller(host="localhost:8000,localhost:8000"), "Host"),
        (caller(server=None), "does not name the address"),
        (caller(server=("/run/socket", None)), "does not name the address"),
        (caller(referer="https://chat.example.com/page"), "proxy"),
    ],
)
async def test_what_shows_another_is_refused_and_says_why(peer: Peer, reason: str) -> None:
    with pytest.raises(UnauthorizedError, match=reason) as refused:
        await Policy(AuthSettings()).authenticate(peer)
    assert refused.value.code == 4010


@pytest.mark.parametrize("sites", ["cross-site", "same-site"])
@pytest.mark.parametrize("mode", ["no-cors", "navigate", "cors", ""])
async def test_a_page_of_another_site_cannot_load_an_answer_as_its_own_part(sites: str, mode: str) -> None:
    with pytest.raises(OriginError):
        await Policy(AuthSettings()).authenticate(caller(sec_fetch_site=sites, sec_fetch_mode=mode))


def test_a_page_without_tls_is_not_of_a_server_with_tls() -> None:
    over_tls = {"host": "a.example.com", "origin": "http://a.example.com"}
    assert not Peer(address=None, headers=over_tls, scheme="https").is_same_origin
    assert Peer(address=None, headers=over_tls, scheme="http").is_same_origin
    assert Peer(address=None, headers={**over_tls, "origin": "https://a.example.com"}, scheme="https").is_same_origin
    behind_tls = {**over_tls, "origin": "https://a.example.com"}
    assert Peer(address=None, headers=behind_tls, scheme="http").is_same_origin  # a proxy that ends TLS


def test_many_headers_of_one_name_are_read_in_time() -> None:
    scope: dict[str, Any] = {"headers": [(b"x-a", b"1234567")] * 200_000}
    began = time.process_time()
    assert len(Peer.from_scope(scope).headers["x-a"]) == 200_000 * 8 - 1
    assert time.process_time() - began < 5  # joined one by one it took over a minute


# ---------------------------------------------------------------- a real server
async def test_http_1_0_and_a_foreign_host_are_refused_by_a_real_server(open_site: Site) -> None:
    open_site.hub.open("e")
    port = open_site.server.port

    async def status(version: str, host: str) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET /executions/e HTTP/{version}\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        return int(answer.split()[1])

    assert await status("1.1", f"localhost:{port}") == 200
    assert await status("1.0", f"localhost:{port}") == 401
    assert await status("1.1", "chat.example.com") == 401


async def test_answers_keep_to_their_type_and_their_site(open_site: Site) -> None:
    async with httpx2.AsyncClient() as http:
        for path in ("/health", "/executions", "/executions/none/stream"):
            headers = (await http.get(open_site.url + path)).headers if "stream" not in path else None
            if headers is None:
                async with http.stream("GET", open_site.url + path) as stream:
                    headers = stream.headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cross-origin-resource-policy"] == "same-origin"
        module = await http.get(f"{open_site.url}/lg-streaming.js")
        assert module.headers["cross-origin-resource-policy"] == "cross-origin"


@pytest.mark.parametrize(("origins", "warned"), [(["*"], True), (["https://a.example.com"], False), ([], False)])
def test_all_origins_without_authentication_are_warned_about(
    origins: list[str], caplog: pytest.LogCaptureFixture, *, warned: bool
) -> None:
    with site(gateway={"cors_origins": origins}):
        pass
    assert any("does not count" in record.getMessage() for record in caplog.records) == warned


async def raw_status(port: int, path: str, *headers: str, method: str = "GET") -> int:
    """Return the response to a request with exactly these headers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write("\r\n".join([f"{method} {path} HTTP/1.1", *headers, "Connection: close", "", ""]).encode())
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n"), 20)
    writer.close()
    return int(answer.split()[1])


async def test_a_host_that_is_not_this_listeners_own_is_refused_by_a_real_server(open_site: Site) -> None:
    open_site.hub.open("e")
    port = open_site.server.port
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"LOCALHOST.:{port}", f"a.localhost:{port}"):
        assert await raw_status(port, "/executions/e", f"Host: {host}") == 200, host
    for host in ("localhost", "127.0.0.1", f"localhost:{port + 1}", f"127.0.0.2:{port}", f"[::1]:{port}", "", "a"):
        assert await raw_status(port, "/executions/e", f"Host: {host}") == 401, host
    assert await raw_status(port, "/executions/e") in {400, 401}
    twice = (f"Host: localhost:{port}", f"Host: localhost:{port}")
    assert await raw_status(port, "/executions/e", *twice) in {400, 401}


ROUTES = (
    "/executions",
    "/executions/e",
    "/executions/none",
    "/executions/e/updates",
    "/executions/e/stream",
    "/health",
    "/health/live",
    "/metrics",
)


@pytest.mark.parametrize("auth", [{}, {"enabled": False}])
@pytest.mark.parametrize("said", ["cross-site", "same-site", "Cross-Site"])
async def test_other_sites_pages_are_refused_on_all_routes_unless_listed(auth: dict[str, Any], said: str) -> None:
    listed = "https://app.example.com"
    with site(auth=auth, gateway={"cors_origins": [listed]}) as place:
        place.hub.open("e")
        port = place.server.port
        host = f"Host: localhost:{port}"
        for path in ROUTES:
            for mode in ("no-cors", "navigate"):
                headers = (host, f"Sec-Fetch-Site: {said}", f"Sec-Fetch-Mode: {mode}")
                assert await raw_status(port, path, *headers) == 403, path
                assert await raw_status(port, path, *headers, "Referer: https://evil.example.com/") == 403, path
        assert await raw_status(port, "/executions/e", host, f"Sec-Fetch-Site: {said}", f"Origin: {listed}") == 200
        assert await raw_status(port, "/executions/e", host, f"Sec-Fetch-Site: {said}", f"Referer: {listed}/a") == 200
        assert await raw_status(port, "/lg-streaming.js", host, f"Sec-Fetch-Site: {said}") == 200
        # A page of the same name may be of another site for the browser: http and https.
        own = f"Origin: http://localhost:{port}"
        assert await raw_status(port, "/executions/e", host, own, f"Sec-Fetch-Site: {said}") == 403
        assert await raw_status(port, "/executions/e", host, own, "Sec-Fetch-Site: same-origin") == 200


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example.com"}])
async def test_handshakes_of_other_sites_pages_are_refused(open_site: Site, headers: dict[str, str]) -> None:
    async with connect(f"{open_site.server.ws_url}/ws", additional_headers=headers) as socket:
        assert json.loads(await socket.recv())["payload"]["code"] == 4031
    async with raw_client(open_site, login=False, headers=headers) as client:
        await client.send("40")
        assert json.loads((await client.until("44"))[2:])["data"]["code"] == 4031


@pytest.mark.parametrize("origin", ["https://evil.example.com", "null", "http://localhost:1"])
async def test_the_star_does_not_count_in_local_mode(origin: str) -> None:
    with site(gateway={"cors_origins": ["*", "https://listed.example.com"]}) as place:
        place.hub.open("e")
        async with httpx2.AsyncClient(base_url=place.url) as http:
            for method, path in (("GET", "/executions/e"), ("DELETE", "/executions/e"), ("GET", "/health")):
                answer = await http.request(method, path, headers={"Origin": origin})
                assert (answer.status_code, answer.json()["error"]["code"]) == (403, 4031)
                assert "access-control-allow-origin" not in answer.headers
            assert (await http.options("/executions/e", headers={"Origin": origin})).status_code == 403
            listed = await http.get("/executions/e", headers={"Origin": "https://listed.example.com"})
            assert listed.headers["access-control-allow-origin"] == "https://listed.example.com"
        async with connect(f"{place.server.ws_url}/ws", additional_headers={"Origin": origin}) as socket:
            assert json.loads(await socket.recv())["payload"]["code"] == 4031
        assert place.hub.registry.is_running("e")


@pytest.mark.parametrize("proxy", [{"x-forwarded-proto": "https"}, {"forwarded": 'for=1.2.3.4;proto="https"'}])
def test_behind_tls_a_page_without_tls_is_another(proxy: dict[str, str]) -> None:
    headers = {"host": "a.example.com", **proxy}
    assert not Peer(address=None, headers={**headers, "origin": "http://a.example.com"}).is_same_origin
    assert Peer(address=None, headers={**headers, "origin": "https://a.example.com"}).is_same_origin
    assert Peer(address=None, headers={**headers, "origin": "https://a.example.com:443"}).is_same_origin


async def test_every_answer_is_isolated(open_site: Site, caplog: pytest.LogCaptureFixture) -> None:
    async with httpx2.AsyncClient(base_url=open_site.url) as http:
        answers = [await http.get(path) for path in ("/ws", "/executions/%20", "/lg-streaming.js", "/executions?x=1")]
        answers += [await http.options("/executions"), await http.put("/executions"), await http.post("/tickets")]
        answers += [await http.get("/socket.io/?EIO=4&transport=websocket&j=x"), await http.head("/health")]
        for answer in answers:
            assert answer.headers["x-content-type-options"] == "nosniff", answer.url
            assert answer.headers["cross-origin-resource-policy"], answer.url
    caplog.clear()  # python-engineio logs such a request once, as an error


async def test_a_stream_of_ones_own_route_is_isolated_too() -> None:
    hub = StreamHub(StreamingSettings())
    app = FastAPI()
    app.add_api_route("/mine/{name}", lambda name: sse_response(hub, name))  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    hub.open("e")
    await hub.close("e")
    with serve(app) as server:
        async with httpx2.AsyncClient() as http:
            for last, status in (("", 200), ("nonsense", 400)):
                answer = await http.get(f"{server.url}/mine/e", headers={"Last-Event-ID": last} if last else {})
                assert answer.status_code == status
                assert answer.headers["x-content-type-options"] == "nosniff"
                assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    await hub.aclose()


# ---------------------------------------------------------------- a real nginx
@pytest.fixture
def behind() -> Generator[Site]:
    with site() as place:
        place.hub.open("e")
        place.hub.publish("e", "note", {"secret": 1})
        yield place


async def through(port: int, path: str, **headers: str) -> httpx2.Response:
    async with httpx2.AsyncClient(timeout=10) as http:
        return await http.get(f"http://127.0.0.1:{port}{path}", headers=headers)


@needs_nginx
@pytest.mark.parametrize("host", ["chat.example.com", "localhost:{up}", "127.0.0.1"])
@pytest.mark.parametrize(
    "more",
    [
        "",  # HTTP/1.0, with the upstream's address as Host
        "proxy_set_header Host $http_host;",
        "proxy_http_version 1.1; proxy_set_header X-Real-IP $remote_addr;",
        "proxy_http_version 1.1; proxy_set_header Connection 'upgrade'; proxy_set_header Upgrade $http_upgrade;",
        "proxy_http_version 1.1; proxy_set_header Via nginx; proxy_set_header Host $host;",
    ],
)
async def test_what_comes_through_nginx_is_not_from_here(behind: Site, tmp_path: Path, more: str, host: str) -> None:
    up = behind.server.port
    with nginx(tmp_path, f"proxy_pass http://127.0.0.1:{up}; {more}") as port:
        for path in ("/executions/e/stream", "/executions/e/updates", "/executions"):
            answer = await through(port, path, host=host.format(up=up))
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, 4010)
            assert "secret" not in answer.text


@needs_nginx
async def test_a_web_socket_through_nginx_with_the_visitors_host_is_not_from_here(behind: Site, tmp_path: Path) -> None:
    location = (
        f"proxy_pass http://127.0.0.1:{behind.server.port}; proxy_http_version 1.1; proxy_set_header Host $host;"
        "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection 'upgrade';"
    )
    with nginx(tmp_path, location) as port:
        async with connect("ws://chat.example.com/ws", host="127.0.0.1", port=port) as socket:
            refused = json.loads(await socket.recv())
            assert (refused["type"], refused["payload"]["code"]) == ("error", 4010)


def location_on(page: Path) -> str:
    """The inside of the `location` block of the page's nginx example."""
    example = next(block.code for block in blocks_of(page) if block.language == "nginx")
    return example[example.index("{") + 1 : example.rindex("}")].strip()


OUTSIDE = ("chat.example.com", "localhost", "localhost:{up}", "127.0.0.1:{up}", "localhost:{nginx}", "a.localhost")


@needs_nginx
@pytest.mark.parametrize("host", OUTSIDE)
async def test_through_the_serving_pages_nginx_nobody_passes_for_local(
    behind: Site, tmp_path: Path, root: Path, host: str
) -> None:
    up = behind.server.port
    location = location_on(root / "docs/guide/serving.md").replace("127.0.0.1:8000", f"127.0.0.1:{up}")
    with nginx(tmp_path, location) as port:
        name = host.format(up=up, nginx=port)
        for path in ("/executions/e", "/executions/e/stream", "/executions/e/updates", "/executions", "/metrics"):
            answer = await through(port, path, host=name)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, 4010)
            assert "secret" not in answer.text
        async with connect(f"ws://{name}/ws", host="127.0.0.1", port=port) as socket:
            assert json.loads(await socket.recv())["payload"]["code"] == 4010
        address = f"ws://{name}/socket.io/?EIO=4&transport=websocket"
        async with connect(address, host="127.0.0.1", port=port) as socket:
            await socket.recv()
            await socket.send("40")
            assert json.loads(str(await socket.recv())[2:])["data"]["code"] == 4010


@needs_nginx
async def test_through_the_serving_pages_nginx_a_token_opens_everything(tmp_path: Path, root: Path) -> None:
    bearer = {"authorization": f"Bearer {token()}"}
    with site(auth={"secret": SECRET}) as place:
        place.hub.open("e", owner="alice")
        place.hub.publish("e", "note", {"text": 1})
        location = location_on(root / "docs/guide/serving.md")
        with nginx(tmp_path, location.replace("127.0.0.1:8000", f"127.0.0.1:{place.server.port}")) as port:
            assert (await through(port, "/executions/e/updates", host="chat.example.com", **bearer)).status_code == 200
            async with connect(f"ws://localhost:{port}/ws", additional_headers=bearer) as socket:
                assert json.loads(await socket.recv())["payload"]["status"] == "connected"


@needs_nginx
async def test_what_cannot_be_recognised_is_what_the_security_page_names(
    behind: Site, tmp_path: Path, root: Path
) -> None:
    up = behind.server.port
    location = f"proxy_pass http://127.0.0.1:{up}; proxy_http_version 1.1;"
    with nginx(tmp_path, location) as port:
        # nginx names the upstream as Host: the request is the one that a program on this machine would send.
        assert (await through(port, "/executions/e", host="chat.example.com")).status_code == 200
        browser = {"sec-fetch-site": "same-origin", "referer": "https://chat.example.com/page"}
        assert (await through(port, "/executions/e", **browser)).status_code == 401
    with nginx(tmp_path, location + "proxy_set_header Host $http_host;") as port:
        for host in ("chat.example.com", "localhost", "127.0.0.1", f"localhost:{port}"):
            assert (await through(port, "/executions/e", host=host)).status_code == 401
        # The visitor's own choice, which HAProxy passes on as well.
        assert (await through(port, "/executions/e", host=f"localhost:{up}")).status_code == 200
    async with tcp_proxy(up) as proxy:
        # A TCP forwarder is seen where the caller names its port, and not where it names the listener's.
        assert (await through(proxy.port, "/executions/e")).status_code == 401
        assert (await through(proxy.port, "/executions/e", host=f"localhost:{up}")).status_code == 200


def test_the_page_and_the_start_up_message_say_what_is_not_recognised(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with site():
        pass
    page = " ".join((root / "docs/guide/security.md").read_text().split())
    for text in (page, caplog.text):
        for word in ("TCP forwarder", "ssh -L", "socat", "HAProxy", "option forwardfor", "published"):
            assert word in text, word
