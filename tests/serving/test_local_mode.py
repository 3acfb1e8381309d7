"""`python -m lg_streaming serve` without authentication: on loopback only, and for this machine only."""

import httpx2
import pytest
from websockets.asyncio.client import connect

from tests.gateway.tokens import token
from tests.serving.conftest import Pki
from tests.serving.process import APP, refused, served

LOCAL = ["tests.serving.app:make_local", "--factory"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
@pytest.mark.parametrize("http2", [False, True])
def test_it_does_not_start_where_other_machines_reach_it(pki: Pki, host: str, http2: bool) -> None:
    options = [*pki.options, "--http2"] if http2 else []
    code, said = refused(*LOCAL, "--port=0", f"--host={host}", *options)
    assert code == 3
    lines = [line for line in said.splitlines() if "LG_STREAMING_AUTH__SECRET" in line]
    assert len(lines) == 1
    assert f"listens on {host}" in lines[0]
    assert "Traceback" not in said


@pytest.mark.parametrize("http2", [False, True])
async def test_the_listeners_own_name_and_port_are_known_to_both_servers(pki: Pki, http2: bool) -> None:
    options = [*pki.options, "--http2"] if http2 else []
    with served(*options, app=LOCAL) as server:
        async with httpx2.AsyncClient(verify=pki.context, http2=http2) as http:
            url = f"{server.url.partition('://')[0]}://localhost:{server.port}/executions/exec-1"
            assert (await http.get(url)).status_code == 200
            for host in ("localhost", f"localhost:{server.port + 1}", f"127.0.0.2:{server.port}"):
                assert (await http.get(url, headers={"Host": host})).status_code == 401


async def test_no_log_level_shows_a_token() -> None:
    secret = token()
    with served("--log-level=debug", app=APP) as server:
        address = f"ws://127.0.0.1:{server.port}"
        for path in (f"/ws?token={secret}", f"/socket.io/?EIO=4&transport=websocket&token={secret}", "/ws"):
            async with connect(address + path, additional_headers={"Authorization": f"Bearer {secret}"}) as socket:
                await socket.recv()
        async with httpx2.AsyncClient() as http:
            assert (await http.get(f"{server.url}/executions?token={secret}")).status_code == 400
        server.stop()
        assert secret not in "".join(server.log)
        assert "token=***" in "".join(server.log)
