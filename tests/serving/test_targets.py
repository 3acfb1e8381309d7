"""Request targets that are addresses: what they name has to be what the Host names."""

from collections.abc import Generator

import pytest
from fastapi import FastAPI

from lg_streaming import StreamingModule
from tests.serving.guarded import Guarded, guarded


@pytest.fixture(scope="module")
def server() -> Generator[Guarded]:
    app = FastAPI()
    StreamingModule().install(app)
    with guarded(app) as running:
        yield running


def status(server: Guarded, target: str, host: str) -> int:
    request = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    return int(server.ask(request.encode()).split()[1])


@pytest.mark.parametrize(
    "target",
    [
        "http://evil.example/executions",
        "HTTP://EVIL/executions",
        "http://u@OWN/executions",
        "ws://localhost:1/executions",
    ],
)
def test_an_address_of_another_server_is_refused_in_spite_of_its_host(server: Guarded, target: str) -> None:
    own = f"localhost:{server.port}"
    assert status(server, target.replace("OWN", own), own) == 400


@pytest.mark.parametrize("target", ["/executions", "http://OWN/executions", "http://LOCALHOST:PORT/executions?limit=1"])
def test_an_address_of_this_server_is_served(server: Guarded, target: str) -> None:
    own = f"localhost:{server.port}"
    assert status(server, target.replace("OWN", own).replace("PORT", str(server.port)), own) == 200
