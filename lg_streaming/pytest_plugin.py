"""The pytest plugin: the fixture `streaming`. It is loaded by every pytest run, so it imports nothing but pytest."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lg_streaming.module import StreamingModule


@pytest.fixture
def streaming(monkeypatch: pytest.MonkeyPatch) -> Generator[StreamingModule]:
    """A `StreamingModule` of the test's own, closed after it. Settings come from no environment variable.

    It serves sync and async tests alike, with any plugin that runs async tests. A fixture of your own with this name
    takes its place.
    """
    for name in os.environ:
        if name.upper().startswith("LG_STREAMING_"):
            monkeypatch.delenv(name)
    from lg_streaming.module import StreamingModule  # noqa: PLC0415 (a run without this fixture pays nothing)

    module = StreamingModule()
    yield module
    # On a thread, because asyncio.run() would take the event loop from the one that runs the tests.
    closing = threading.Thread(target=lambda: asyncio.run(module.aclose()), name="lg-streaming close")
    closing.start()
    closing.join()
