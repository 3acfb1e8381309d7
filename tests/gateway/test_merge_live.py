"""A reader on a 64 kbit/s line that asked for merge keeps up with 200 tokens a second."""

import asyncio
import json
import socket
import time
from typing import Any

import pytest
from websockets.asyncio.client import connect

from tests.gateway.site import Site, site

LINE = 8_000
"""Bytes a second."""
RATE = 200
SECONDS = 5.0
PIECE = 400


class SlowClient:
    """A Socket.IO client behind a relay that lets 8,000 bytes a second through."""

    def __init__(self) -> None:
        self.text = ""
        self.ages: list[float] = []
        self.bytes = 0
        self.seq = 0
        self.merged = 0
        self.ended = asyncio.Event()

    def hear(self, message: str) -> None:
        if not message.startswith('42["'):
            return
        name, payload = json.loads(message[2:])
        if name == "subscription_closed":
            self.ended.set()
        for update in payload["updates"] if name == "updates" else [payload] if "metadata" in payload else []:
            self._update(update)

    def _update(self, update: dict[str, Any]) -> None:
        metadata = update["metadata"]
        assert metadata["sequence_number"] > self.seq
        assert metadata.get("merged_from", metadata["sequence_number"]) == self.seq + 1
        self.seq = metadata["sequence_number"]
        self.merged += "merged_from" in metadata
        if update["type"] == "token":
            self.text += update["data"]["content"]
            self.ages.append(time.time() - float(self.text.rsplit("@", 1)[1]))


async def relay(place: Site, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (place.server.host, place.server.port))
    up_reader, up_writer = await asyncio.open_connection(sock=sock, limit=2_048)

    async def up() -> None:
        while data := await reader.read(4_096):
            up_writer.write(data)
        up_writer.close()

    async def down() -> None:
        while data := await up_reader.read(PIECE):
            writer.write(data)
            await asyncio.sleep(len(data) / LINE)
        writer.close()

    await asyncio.gather(up(), down(), return_exceptions=True)


@pytest.mark.parametrize("batch", [False, True])
async def test_a_slow_reader_that_asked_for_merge_keeps_up(batch: bool) -> None:
    with site(auth={"enabled": False}, limits={"messages_per_second": None}) as place:
        server = await asyncio.start_server(lambda r, w: relay(place, r, w), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with (
            server,
            connect(f"ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket", compression=None) as connection,
        ):
            client = SlowClient()
            await connection.send("40")
            wanted = {"execution_id": "e", "merge": True, "batch": batch}
            await connection.send("42" + json.dumps(["subscribe_execution", wanted]))
            said = ""
            publishing = asyncio.create_task(publish(place))

            async def listen() -> None:
                async for message in connection:
                    if message == "2":
                        await connection.send("3")
                    client.hear(str(message))
                    if client.ended.is_set():
                        return

            async with asyncio.timeout(SECONDS * 4):
                await listen()
            said = await publishing
            assert client.text == said
            assert client.merged > 0
            late = client.ages[len(client.ages) // 2 :]
            print(f"batch={batch}: {len(client.ages)} updates of {RATE * SECONDS:.0f}, age at most {max(late):.2f} s")
            assert max(late) < SECONDS


async def publish(place: Site) -> str:
    said = ""
    began = time.monotonic()
    for index in range(int(RATE * SECONDS)):
        content = f"word@{time.time():.3f}"
        said += content
        place.hub.publish("e", "token", {"content": content, "index": index, "role": "ai"})
        await asyncio.sleep(max(0.0, began + (index + 1) / RATE - time.monotonic()))
    await place.hub.close("e")
    return said
