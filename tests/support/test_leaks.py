"""The check that nothing is left behind finds what is left behind."""

import asyncio
import socket
import threading
from pathlib import Path

import pytest

from tests.support.leaks import footprint, left_since


def test_a_thread_is_found_until_it_ends() -> None:
    before = footprint()
    go = threading.Event()
    thread = threading.Thread(target=go.wait, name="lg-streaming-forgotten", daemon=True)
    thread.start()
    try:
        assert left_since(before) == ["thread 'lg-streaming-forgotten'"]
    finally:
        go.set()
        thread.join()
    assert left_since(before) == []


def test_a_listening_and_a_connected_socket_are_found_until_closed() -> None:
    before = footprint()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert left_since(before) == [f"TCP socket {port} -> 0 listening"]
        with socket.create_connection(("127.0.0.1", port)):
            assert any(f"-> {port} established" in line for line in left_since(before))
    assert left_since(before) == []


def test_a_forgotten_task_fails_the_test(pytester: pytest.Pytester, root: Path) -> None:
    pytester.makeconftest("from tests.conftest import *  # noqa: F403")
    pytester.makepyfile(
        """
        import asyncio

        kept = set()

        async def test_forgets():
            kept.add(asyncio.create_task(asyncio.Event().wait(), name="forgotten"))

        async def test_clean():
            await asyncio.create_task(asyncio.sleep(0))
        """
    )
    result = pytester.runpytest_subprocess("-o", "anyio_mode=auto", "-o", f"pythonpath={root}")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*tasks left behind*forgotten*"])


async def test_tasks_that_ended_are_not_counted() -> None:
    await asyncio.gather(*(asyncio.sleep(0) for _ in range(3)))
