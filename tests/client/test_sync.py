"""The clients in a plain script."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Generator

import pytest

from lg_streaming.client import SyncClient
from lg_streaming.errors import ConnectionLostError, ForbiddenError, PromptError
from tests.client.conftest import OPEN
from tests.gateway.site import Site, site
from tests.support.server import ROOT

TRANSPORTS = ["sse", "socketio"]


@pytest.fixture(scope="module")
def place() -> Generator[Site]:
    with site(**OPEN) as running:
        yield running


def run(place: Site, name: str, count: int) -> None:
    place.tokens(name, count)
    asyncio.run(place.hub.close(name))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_reading_in_a_plain_loop(place: Site, transport: str) -> None:
    name = f"plain-{transport}"
    place.tokens(name, 300)
    with SyncClient(place.url, transport=transport) as client:  # pyright: ignore[reportArgumentType]
        got, after = list[int](), None
        while len(got) < 301:
            with client.subscribe(name, after=after) as subscription:
                for update in subscription:
                    got.append(update.metadata.sequence_number)
                    if len(got) % 100 == 0 or len(got) == 301:
                        break
                after = subscription.position
        assert got == list(range(1, 302))
        assert str(after).endswith(":301")
        assert client.statistics().subscriptions == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_batches_and_live_updates(place: Site, transport: str) -> None:
    name = f"live-{transport}"
    place.tokens(name, 10)
    heard: list[str] = []
    with SyncClient(place.url, transport=transport) as client:  # pyright: ignore[reportArgumentType]
        client.on("connected", lambda event: heard.append(event.name))
        subscription = client.subscribe(name)
        subscription.connect()
        assert subscription.state == client.state == "connected"
        later = threading.Timer(0.1, lambda: run(place, name, 10))
        later.start()
        got = [update.metadata.sequence_number for batch in subscription.batches() for update in batch]
        later.join()
        assert got == list(range(1, 23))
        assert subscription.position is not None
        assert subscription.position.seq == 22
        assert heard == ["connected"]
        assert client.text(name).startswith("t0 t1 ")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_asking(place: Site, transport: str) -> None:
    name = f"asked-{transport}"
    place.tokens(name, 1)
    with SyncClient(place.url, transport=transport) as client:  # pyright: ignore[reportArgumentType]
        assert client.execution(name)["state"] == "running"
        assert name in [each["execution_id"] for each in client.executions(limit=200)["executions"]]
        with pytest.raises(PromptError):
            client.respond(name, "p1", "yes")
        with pytest.raises(ForbiddenError):
            client.execution("unknown")


def test_errors_are_raised_in_the_loop() -> None:
    with SyncClient("http://127.0.0.1:1", auto_reconnect=False) as client, pytest.raises(ConnectionLostError):
        list(client.subscribe("e"))


def test_outside_its_block_it_does_nothing() -> None:
    client = SyncClient("http://127.0.0.1:1")
    with pytest.raises(RuntimeError, match="with SyncClient"):
        client.executions()
    client.close()
    with pytest.raises(ValueError, match="socketio"):
        SyncClient("http://127.0.0.1:1", transport="carrier pigeon")  # pyright: ignore[reportArgumentType]


SCRIPT = """
import sys
from lg_streaming.client import SyncClient

with SyncClient(sys.argv[1], transport=sys.argv[2]) as client:
    try:
        for update in client.subscribe(sys.argv[3]):
            print(update.type, flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_ctrl_c_ends_a_script_that_waits(place: Site, transport: str) -> None:
    name = f"interrupted-{transport}"
    place.tokens(name, 1)
    command = [sys.executable, "-c", SCRIPT, place.url, transport, name]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert [process.stdout.readline().strip() for _ in range(2)] == ["workflow_start", "token"]
        process.send_signal(signal.SIGINT)
        said, complaints = process.communicate(timeout=20)
        assert (complaints, said.strip(), process.returncode) == ("", "interrupted", 0)
