"""A log that behaves like one on another machine: slow, away for a while, with replies that get lost."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal

from lg_streaming.errors import LogUnavailableError
from lg_streaming.events import Position
from lg_streaming.log import Batch, LogState, MemoryLog, ReadResult, StoredUpdate
from lg_streaming.log.fleet import Fleet
from tests.log.drafts import read_now

PATIENCE = 10.0

Fault = Literal["away", "reply lost", "strange"]


def _ignore(*_: object) -> None:
    pass


class FaultyLog:
    """A ``MemoryLog`` behind a bad line. Appends take ``delay`` seconds and may be held up by ``hold``;
    a ``mute`` one loses its notifications."""

    blocking = True
    recheck: float | None = 1.0
    fleet: Fleet | None = None

    def __init__(self, *, delay: float = 0.0, mute: bool = False) -> None:
        self.memory = MemoryLog()
        self.delay = delay
        self.mute = mute
        self._faults: deque[Fault] = deque()
        self.away = False
        """True if every call fails."""
        self.tried: list[Batch] = []
        self.entered = threading.Event()
        """Set when an append has come."""
        self.reads_failed = threading.Event()
        self._open = threading.Event()
        self._open.set()

    def hold(self) -> None:
        """Lets appends hang until ``release``."""
        self.entered.clear()
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def fail_next(self, *faults: Fault, times: int = 1) -> None:
        """Faults of the next appends, one each."""
        self._faults.extend(faults * times)

    def append(self, batch: Batch) -> int:
        self.tried.append(batch)
        self.entered.set()
        self._open.wait(PATIENCE)
        time.sleep(self.delay)
        fault = self._faults.popleft() if self._faults else None
        if fault == "strange":
            raise RuntimeError("the log's own mistake")
        if self.away or fault == "away":
            raise LogUnavailableError
        repeated = self.memory.append(batch)
        if fault == "reply lost":
            raise LogUnavailableError
        return repeated

    def append_all(self, batches: Sequence[Batch]) -> Sequence[int | Exception]:
        results: list[int | Exception] = []
        for batch in batches:
            try:
                results.append(self.append(batch))
            except Exception as error:  # noqa: BLE001 (what the protocol promises)
                results.append(error)
        return results

    def watch(self, execution_id: str) -> Callable[[], None]:
        return self.memory.watch(execution_id)

    async def ready(self) -> None:
        self._check()

    async def read(self, execution_id: str, after: int, limit: int) -> ReadResult | None:
        self._check()
        return await self.memory.read(execution_id, after, limit)

    async def state(self, execution_id: str) -> LogState | None:
        self._check()
        return await self.memory.state(execution_id)

    async def executions(self) -> Sequence[str]:
        self._check()
        return await self.memory.executions()

    async def list_ids(
        self, *, after: str = "", limit: int = 500, owner: str | None = None, prefix: str = ""
    ) -> Sequence[str]:
        self._check()
        return await self.memory.list_ids(after=after, limit=limit, owner=owner, prefix=prefix)

    async def drop(self, execution_id: str) -> None:
        self._check()
        await self.memory.drop(execution_id)

    def _check(self) -> None:
        if self.away:
            self.reads_failed.set()
            raise LogUnavailableError

    def listen(self, listener: Callable[[str], None]) -> Callable[[], None]:
        return self.memory.listen((lambda _: None) if self.mute else listener)

    def listen_positions(self, listener: Callable[[str, Position | None], None]) -> Callable[[], None]:
        return self.memory.listen_positions(_ignore if self.mute else listener)

    def trim(self, limit: int | None = None) -> bool:
        return self.memory.trim(limit)

    async def aclose(self) -> None:
        await self.memory.aclose()

    def stored(self, execution_id: str = "e") -> Sequence[StoredUpdate]:
        found = read_now(self.memory, execution_id, 0, 1_000_000)
        return () if found is None else found.records
