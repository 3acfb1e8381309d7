"""Signs of several processes without a shared log: found once, logged once, and sent to clients."""

import logging
import multiprocessing
import sys
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from lg_streaming.gateway.hooks.siblings import find_siblings, served_by
from lg_streaming.gateway.protocol.outbound import ConnectionStatus
from lg_streaming.gateway.session.several_processes import SeveralProcesses
from lg_streaming.log import MemoryLog
from tests.gateway.site import raw_client, site
from tests.support.forks import run_forking


class SharedLog(MemoryLog):
    fleet: Any = object()


@pytest.fixture
def several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lg_streaming.gateway.session.several_processes.find_siblings", lambda: "uvicorn: 2 workers")


async def test_clients_and_health_checks_get_the_warning(several: None, caplog: pytest.LogCaptureFixture) -> None:
    with site() as place:
        async with httpx2.AsyncClient(base_url=place.url) as http:
            for path in ("/health", "/health/live", "/health/ready"):
                assert (await http.get(path)).json() == {
                    "status": "ok",
                    "protocol": 1,
                    "warnings": ["several_processes"],
                }
        async with raw_client(place, login=False) as client:
            await client.send("40")
            status = await client.event("connection_status")
    assert ConnectionStatus.model_validate(status).warnings == ["several_processes"]
    warned = [record for record in caplog.records if "several processes" in record.message]
    assert [record.levelno for record in warned] == [logging.WARNING]
    assert "redis://" in warned[0].message


async def test_a_process_alone_has_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    with site() as place:
        async with httpx2.AsyncClient(base_url=place.url) as http:
            assert (await http.get("/health")).json() == {"status": "ok", "protocol": 1}
        async with raw_client(place, login=False) as client:
            await client.send("40")
            assert "warnings" not in await client.event("connection_status")
    assert "several processes" not in caplog.text


async def test_it_is_logged_once_over_several_starts(several: None, caplog: pytest.LogCaptureFixture) -> None:
    processes = SeveralProcesses(MemoryLog())
    for _ in range(2):
        processes.start()
        assert processes.warnings == ("several_processes",)
        await processes.stop()
    assert len(caplog.records) == 1


async def test_a_shared_log_has_no_warning(several: None, caplog: pytest.LogCaptureFixture) -> None:
    processes = SeveralProcesses(SharedLog())
    processes.start()
    assert (processes.warnings, processes.refusal, caplog.text) == ((), None, "")


@pytest.mark.parametrize(("workers", "refused"), [(None, False), (1, False), (2, True)])
def test_serve_refuses_several_workers_without_a_shared_log(workers: int | None, refused: bool) -> None:
    token = served_by.set(workers)
    try:
        assert (SeveralProcesses(MemoryLog()).refusal is not None) is refused
        assert SeveralProcesses(SharedLog()).refusal is None
    finally:
        served_by.reset(token)


def hypercorn_worker() -> None: ...
def granian_worker() -> None: ...
def users_worker() -> None: ...


hypercorn_worker.__module__ = "hypercorn.asyncio.run"
granian_worker.__module__ = "granian.server.mp"
users_worker.__module__ = "shop.jobs"


SIGNS: list[tuple[tuple[Any, dict[str, Any]] | None, dict[str, str], list[str], str | None]] = [
    (None, {}, [], None),
    (None, {"WEB_CONCURRENCY": "1"}, [], None),
    (None, {"WEB_CONCURRENCY": "many"}, [], None),
    (None, {"WEB_CONCURRENCY": "3"}, [], "WEB_CONCURRENCY: 3 workers"),
    ((users_worker, {"config": SimpleNamespace(workers=2)}), {}, ["--workers", "2"], None),
    ((hypercorn_worker, {"config": SimpleNamespace(workers=2)}), {}, [], "hypercorn: 2 workers"),
    ((hypercorn_worker, {"config": SimpleNamespace(workers=1)}), {"WEB_CONCURRENCY": "3"}, [], None),
    ((hypercorn_worker, {}), {}, [], None),
    ((granian_worker, {}), {"GRANIAN_WORKERS": "2"}, [], "granian: 2 workers"),
    ((granian_worker, {}), {"GRANIAN_WORKERS": "2"}, ["granian", "--workers", "1"], None),
    ((granian_worker, {}), {}, ["granian", "--workers=4", "app:app"], "granian: 4 workers"),
    ((granian_worker, {}), {}, ["granian", "--workers"], None),
]


@pytest.mark.parametrize(("process", "env", "arguments", "sign"), SIGNS)
async def test_signs(
    monkeypatch: pytest.MonkeyPatch,
    process: tuple[Any, dict[str, Any]] | None,
    env: dict[str, str],
    arguments: list[str],
    sign: str | None,
) -> None:
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    monkeypatch.setattr("lg_streaming.gateway.hooks.siblings._parents_arguments", lambda: arguments)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    if process is not None:
        fake = SimpleNamespace(_target=process[0], _kwargs=process[1])
        monkeypatch.setattr(multiprocessing, "current_process", lambda: fake)
    assert find_siblings() == sign


# ---------------------------------------------------------------- forks
_SERVED = """
import logging
from fastapi import FastAPI
from fastapi.testclient import TestClient
class Lines(logging.Handler):
    def emit(self, record):
        lines.append(record.getMessage())

lines = []
logging.getLogger("lg_streaming.gateway").addHandler(Lines(logging.WARNING))
streaming = StreamingModule(StreamingSettings(auth={"enabled": False}))
app = FastAPI()
streaming.install(app)

def child():
    lines.clear()
    before = len(lines)
    if publishes:
        run(streaming, "one")
        run(streaming, "two")
    warned = [line for line in lines if "was forked from a server" in line]
    with TestClient(app) as client:
        health = client.get("/health").json()
    return {"before": before, "warned": warned, "warnings": health.get("warnings")}

if serving:
    with TestClient(app):
        found = in_child(child)
else:
    with TestClient(app):
        pass
    found = in_child(child)
print(json.dumps(found))
"""

needs_fork = pytest.mark.skipif(sys.platform == "win32", reason="needs os.fork")


@needs_fork
def test_a_child_of_a_server_that_publishes_warns_once() -> None:
    found = run_forking(_SERVED, serving=True, publishes=True)
    assert (found["before"], len(found["warned"])) == (0, 1)
    assert "'one'" in found["warned"][0]
    assert found["warnings"] == ["several_processes"]


@needs_fork
@pytest.mark.parametrize(("serving", "publishes"), [(True, False), (False, True)])
def test_other_children_do_not_warn(serving: bool, publishes: bool) -> None:
    found = run_forking(_SERVED, serving=serving, publishes=publishes)
    assert found["warned"] == []
    if not serving:
        assert found["warnings"] is None
