"""The module's warnings about its server."""

import sys
from collections.abc import Generator

import pytest
from fastapi import FastAPI

from lg_streaming import StreamingModule, StreamingSettings
from lg_streaming.gateway import gateway as gateway_module
from lg_streaming.gateway.hooks.front_door import FrontDoor, describe_weaknesses, find_front_door
from lg_streaming.serving import HTTPProtocol, WebSocketProtocol
from lg_streaming.settings import LimitSettings
from tests.serving.guarded import guarded
from tests.support.server import serve


@pytest.fixture(autouse=True)
def unsaid() -> Generator[None]:
    said = gateway_module._warned  # pyright: ignore[reportPrivateUsage]
    before = list(said)
    said.clear()
    yield
    said[:] = before


def make_app(**limits: int | None) -> FastAPI:
    app = FastAPI()
    StreamingModule(StreamingSettings.model_validate({"limits": limits})).install(app)
    return app


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "send nothing" in record.getMessage()]


def test_a_plain_uvicorn_is_told_once_what_it_does_not_protect(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        with serve(make_app()):
            pass
    (line,) = lines(caplog)
    assert "the size of headers, addresses and trailers has no limit" in line
    assert "python -m lg_streaming serve" in line
    assert "--http lg_streaming.serving:HTTPProtocol" in line


def test_h11_bounds_sizes_but_not_times(caplog: pytest.LogCaptureFixture) -> None:
    with serve(make_app(), http="h11"):
        pass
    (line,) = lines(caplog)
    assert "has no limit" not in line


def test_nothing_is_said_where_the_protocols_are_ours(caplog: pytest.LogCaptureFixture) -> None:
    with serve(make_app(), http=HTTPProtocol, ws=WebSocketProtocol):
        pass
    with guarded(make_app()):
        pass
    assert not lines(caplog)


async def test_without_a_server_nothing_is_known_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("granian", "hypercorn", "daphne"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert find_front_door() is None
    assert describe_weaknesses() is None
    monkeypatch.setitem(sys.modules, "hypercorn", sys)
    assert (describe_weaknesses() or "").startswith("under hypercorn, connections that send nothing")


def test_the_limits_are_those_of_the_most_generous_gateway() -> None:
    door = FrontDoor()
    assert (door.connections, door.per_address) == (10_000, 100)
    first = door.add(LimitSettings(connections=5, connections_per_address=2))
    assert (door.connections, door.per_address) == (5, 2)
    second = door.add(LimitSettings(connections=3, connections_per_address=4))
    assert (door.connections, door.per_address) == (5, 4)
    third = door.add(LimitSettings(connections=None, connections_per_address=None))
    assert (door.connections, door.per_address) == (None, None)
    third()
    first()
    assert (door.connections, door.per_address) == (3, 4)
    second()
    assert (door.connections, door.per_address) == (3, 4)


def test_a_server_takes_the_limits_of_its_application() -> None:
    with guarded(make_app(connections=77, connections_per_address=7)) as server:
        door = FrontDoor.from_server_state(server.server.server_state)
        assert (door.connections, door.per_address) == (77, 7)
