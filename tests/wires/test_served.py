"""The ends of streams under `python -m lg_streaming serve --http2`: granian resets the streams that have to break."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx2

from lg_streaming.types import WireName
from tests.serving.conftest import Pki
from tests.serving.conftest import pki as pki  # noqa: PLC0414 (a fixture)
from tests.serving.process import served
from tests.wires.all_wires import WIRES, bearer
from tests.wires.test_ends import HOW
from tests.wires.test_observed import JSON, stream_of

APP = ["tests.wires.served_app:make", "--factory"]
BROKEN = {18, 92}
"""Exit statuses of curl: a part of the body is missing, a stream of HTTP/2 was reset."""


async def start_reading(wire: WireName, url: str, folder: Path) -> asyncio.subprocess.Process:
    """Read a stream with curl, which reads on behind a GOAWAY, as h2 does not."""
    case = stream_of(wire)
    content, headers = case.content("cut"), bearer()
    body: list[str] = []
    if content is not None:
        headers, body = headers | JSON, ["--data-binary", content.decode()]
    given = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    options = [
        "-sNk",
        "--http2",
        "--max-time",
        "30",
        "-X",
        case.method,
        "-o",
        str(folder / wire),
        "-w",
        "%{http_version}",
    ]
    return await asyncio.create_subprocess_exec(
        "curl", *options, *given, *body, f"{url}{case.at('cut')}", stdout=asyncio.subprocess.PIPE
    )


async def end_of(reading: asyncio.subprocess.Process, text: Path) -> str:
    """Wait for the end of a stream, and return how it ended."""
    version, _ = await reading.communicate()
    assert version == b"2"
    if reading.returncode in BROKEN:
        return "breaks"
    assert reading.returncode == 0
    return "RUN_ERROR" if "RUN_ERROR" in text.read_text(encoding="utf-8") else "ends"


async def test_at_a_signal_each_wire_ends_in_its_own_way(pki: Pki, tmp_path: Path) -> None:
    with served("--http2", *pki.options, app=APP) as server:
        client = httpx2.AsyncClient(
            base_url=server.url, http1=False, http2=True, verify=pki.context, headers=bearer(), timeout=20
        )
        async with client as http:
            await http.post("/open/cut")
            reading = {wire: await start_reading(wire, server.url, tmp_path) for wire in WIRES}
            async with asyncio.timeout(20):
                while (await http.get("/open")).json() != len(WIRES):
                    await asyncio.sleep(0.05)
        seconds = await asyncio.to_thread(server.stop)
        ends = {wire: await end_of(each, tmp_path / wire) for wire, each in reading.items()}
    assert ends == HOW
    assert seconds < 5
    assert "Traceback" not in "".join(server.log), "".join(server.log)
