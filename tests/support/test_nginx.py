import socket
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tests.support.nginx import nginx_balancer, nginx_program
from tests.support.server import serve

pytestmark = pytest.mark.skipif(nginx_program() is None, reason="nginx is not installed: make tools")


@contextmanager
def site(name: str, status: int = 200) -> Generator[int]:
    async def answer(_: Request) -> Response:
        return PlainTextResponse(name, status)

    with serve(Starlette(routes=[Route("/", answer)])) as server:
        yield server.port


def test_the_balancer_uses_all_gateways_and_passes_over_what_is_away(tmp_path: Path) -> None:
    with ExitStack() as stack:
        one, two = (stack.enter_context(site(name)) for name in ("one", "two"))
        drained = stack.enter_context(site("drained", 503))
        away = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        gone = away.getsockname()[1]
        away.close()
        port = stack.enter_context(nginx_balancer(tmp_path, [one, gone, drained, two]))
        answers = {httpx2.get(f"http://127.0.0.1:{port}/", timeout=10).text for _ in range(8)}
        assert answers == {"one", "two"}
