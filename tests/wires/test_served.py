"""The ends of streams under `python -m lg_streaming serve --http2`: granian resets the streams that have to break."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import h2.exceptions
import httpx2

from lg_streaming.types import WireName
from tests.serving.conftest import Pki
from tests.serving.conftest import pki as pki  # noqa: PLC0414 (a fixture)
from tests.serving.process import served
from tests.wires.all_wires import WIRES, bearer
from tests.wires.test_ends import HOW
from tests.wires.test_observed import JSON, stream_of

APP = ["tests.wires.served_app:make", "--factory"]


async def end_of(answer: httpx2.Response) -> str | None:
    """Read a stream to its end, and return how it ended: httpx2 reports a broken connection, and a reset stream.

    None if the server's PING came after its GOAWAY and before the end of the stream: h2 then reads no more.
    """
    text = ""
    try:
        async with asyncio.timeout(20):
            async for part in answer.aiter_text():
                text += part
    except httpx2.ProtocolError:
        return "breaks"
    except h2.exceptions.ProtocolError:
        return "RUN_ERROR" if "RUN_ERROR" in text else None
    return "RUN_ERROR" if "RUN_ERROR" in text else "ends"


async def test_at_a_signal_each_wire_ends_in_its_own_way(pki: Pki) -> None:
    with served("--http2", *pki.options, app=APP) as server:

        def client() -> httpx2.AsyncClient:
            return httpx2.AsyncClient(
                base_url=server.url, http1=False, http2=True, verify=pki.context, headers=bearer(), timeout=20
            )

        async with AsyncExitStack() as stack:
            reading: dict[WireName, asyncio.Task[str | None]] = {}
            async with client() as http:
                await http.post("/open/cut")
                for wire in WIRES:
                    case = stream_of(wire)
                    content = case.content("cut")
                    headers = JSON if content is not None else {}
                    own = await stack.enter_async_context(client())
                    opened = own.stream(case.method, case.at("cut"), content=content, headers=headers)
                    answer = await stack.enter_async_context(opened)
                    assert answer.http_version == "HTTP/2"
                    reading[wire] = asyncio.create_task(end_of(answer))
                async with asyncio.timeout(20):
                    while (await http.get("/open")).json() != len(WIRES):
                        await asyncio.sleep(0.05)
            seconds = await asyncio.to_thread(server.stop)
            ends = {wire: await task for wire, task in reading.items()}
    seen = {wire: end for wire, end in ends.items() if end is not None}
    assert seen.items() <= HOW.items()
    assert seen
    assert seconds < 5
    assert "Traceback" not in "".join(server.log), "".join(server.log)
