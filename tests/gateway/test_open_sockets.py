"""The open connections of a server, for which its shutdown waits."""

from __future__ import annotations

import asyncio
import logging

import pytest

from lg_streaming.gateway.transports import open_sockets
from lg_streaming.gateway.transports.open_sockets import OpenSockets


async def test_a_shutdown_waits_for_each_connection() -> None:
    sockets = OpenSockets[str]()
    sockets.begin()
    await sockets.wait_closed()
    with sockets.keep("one"):
        with sockets.keep("two"):
            assert set(sockets) == {"one", "two"}
            waiting = asyncio.create_task(sockets.wait_closed())
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiting.done()
    await waiting
    assert not list(sockets)


async def test_a_connection_that_stays_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(open_sockets, "_SHUTDOWN_TIMEOUT", 0.0)
    sockets = OpenSockets[str]()
    sockets.begin()
    with caplog.at_level(logging.WARNING), sockets.keep("one"):
        await sockets.wait_closed()
    assert "1 connections did not close in time" in caplog.text
