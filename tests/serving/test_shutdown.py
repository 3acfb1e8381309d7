"""Shutdown of a server with five hundred open connections."""

import asyncio
import json
from dataclasses import dataclass

from websockets.asyncio.client import connect

from tests.serving.process import Served, served

GRACE = 8.0
MARGIN = 5.0  # a loaded machine
EACH = 250


@dataclass(slots=True)
class Crowd:
    """Connect and count; each client then waits for the server's close."""

    inside: int = 0

    async def all_in(self, count: int) -> None:
        async with asyncio.timeout(30):
            while self.inside < count:
                await asyncio.sleep(0.02)


async def socketio_reader(server: Served, crowd: Crowd) -> int:
    """Return the `retry_ms` that a Socket.IO client receives."""
    address = f"ws://127.0.0.1:{server.port}/socket.io/?EIO=4&transport=websocket"
    async with connect(address, compression=None, open_timeout=30) as client:
        await client.send("40")
        await client.send('42["subscribe_execution",{"execution_id":"exec-1"}]')
        async for message in client:
            if isinstance(message, str) and message.startswith('42["status"'):
                crowd.inside += 1
            if isinstance(message, str) and message.startswith('42["server_restart"'):
                await client.wait_closed()
                assert client.close_code == 4500
                return json.loads(message[2:])[1]["retry_ms"]
    raise AssertionError("closed without a word")


async def sse_reader(server: Served, crowd: Crowd) -> int:
    """The `retry_ms` of an event stream."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /executions/exec-1/stream HTTP/1.1\r\nHost: localhost:%d\r\n\r\n" % server.port)
    await reader.readuntil(b"event: workflow_start")
    crowd.inside += 1
    rest = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert rest.endswith(b"0\r\n\r\n")  # the response is whole
    return int(rest.partition(b'event: server_restart\ndata: {"retry_ms":')[2].partition(b"}")[0])


async def test_five_hundred_clients_are_told_and_the_process_ends_in_its_grace_time() -> None:
    with served(f"--grace={GRACE:g}", "--log-level=warning") as server:
        crowd = Crowd()
        async with asyncio.TaskGroup() as group:
            readers = [
                group.create_task(reader(server, crowd))
                for _ in range(EACH)
                for reader in (socketio_reader, sse_reader)
            ]
            await crowd.all_in(2 * EACH)
            ended = group.create_task(asyncio.to_thread(server.stop))
        told = [reader.result() for reader in readers]
        took = ended.result()
    print(f"{len(told)} clients told; the process ended after {took:.2f} s")
    assert took < GRACE + MARGIN
    assert len(told) == 2 * EACH
    assert all(500 <= retry_ms <= 3_000 for retry_ms in told)
    assert len(set(told)) > 200  # they do not all come back at once
    assert server.process.returncode == 0
    assert "Traceback" not in "".join(server.log)
