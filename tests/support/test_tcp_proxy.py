"""Each fault of the proxy has its effect."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from tests.support.tcp_proxy import TcpProxy, tcp_proxy

PATIENCE = 20.0


@asynccontextmanager
async def echo() -> AsyncGenerator[TcpProxy]:
    """A proxy before a server that echoes all bytes."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            while data := await reader.read(65_536):
                writer.write(data)
        except OSError:
            pass
        finally:
            writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with tcp_proxy(server.sockets[0].getsockname()[1]) as proxy:
        yield proxy
    server.close()
    await asyncio.gather(*tasks)
    await server.wait_closed()


async def connected(proxy: TcpProxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    writer.write(b"hello")
    async with asyncio.timeout(PATIENCE):
        assert await reader.readexactly(5) == b"hello"
    return reader, writer


async def test_a_reset_is_a_reset_and_an_end_an_end() -> None:
    async with echo() as proxy:
        reader, writer = await connected(proxy)
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()
        reader, writer = await connected(proxy)
        proxy.finish()
        assert await reader.read(1) == b""
        writer.close()
        assert proxy.connections == 2


async def test_while_frozen_nothing_passes_and_nothing_is_closed() -> None:
    async with echo() as proxy:
        reader, writer = await connected(proxy)
        proxy.freeze()
        writer.write(b"again")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(5), 0.1)
        proxy.thaw()
        async with asyncio.timeout(PATIENCE):
            assert await reader.readexactly(5) == b"again"
        writer.close()


async def test_slowness_and_a_cut() -> None:
    async with echo() as proxy:
        proxy.delay, proxy.bytes_per_second = 0.05, 100_000
        reader, writer = await connected(proxy)
        began = asyncio.get_running_loop().time()
        writer.write(b"x" * 10_000)
        await reader.readexactly(10_000)
        assert asyncio.get_running_loop().time() - began > 0.1
        writer.close()
        proxy.delay, proxy.bytes_per_second, proxy.cut_after = 0.0, None, 1_005
        reader, writer = await connected(proxy)
        writer.write(b"x" * 10_000)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(10_000)
        writer.close()
