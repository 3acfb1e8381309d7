"""The pytest plugin with the fixture `streaming`. Every pytest run loads it, so it imports only pytest."""

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
    """Provide a new `StreamingModule` to the test, and close it afterwards.

    Its settings ignore environment variables. It serves sync and async tests, with any plugin that runs async tests. A
    fixture of yours with this name replaces it.
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
