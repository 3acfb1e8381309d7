"""A log that behaves like one on another machine: slow, away for a while, with replies that get lost."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Literal

from lg_streaming.errors import LogUnavailableError, RunRefusedError
from lg_streaming.events import Position
from lg_streaming.log import Batch, LogState, MemoryLog, ReadResult, StoredUpdate
from lg_streaming.log.base import PendingUpdate, Start
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
        self.unreachable: set[str] = set()
        """Executions that cannot be reached."""
        self.broken: set[str] = set()
        """Executions at which the log itself makes a mistake."""
        self.raises = False
        """True if a mistake at one batch is raised, and not returned with the results of the others."""
        self.ended: set[str] = set()
        """Runs that have ended in another process."""
        self.owners: dict[str, str] = {}
        """Owners that another process has set."""
        self.skipped: Counter[str] = Counter()
        """Updates of each execution that were skipped because of their key."""
        self.rounds: list[Sequence[Batch]] = []
        """The batches of each request."""
        self.closed_at: list[int] = []
        """The number of stored updates at each close."""
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
        if fault == "strange" or batch.execution_id in self.broken:
            raise RuntimeError("the log's own mistake")
        if self.away or fault == "away" or batch.execution_id in self.unreachable:
            raise LogUnavailableError
        batch = self._without_refused(batch)
        repeated = self.memory.append(batch)
        self.skipped[batch.execution_id] += repeated
        if fault == "reply lost":
            raise LogUnavailableError
        return repeated

    def _without_refused(self, batch: Batch) -> Batch:
        """Without what is refused; raises if that is all of it, or if its owner is refused."""
        owner = self.owners.get(batch.execution_id, batch.owner)
        if batch.owner not in {None, owner} and any(each.type == "workflow_start" for each in batch.updates):
            raise RunRefusedError(execution_id=batch.execution_id)
        left = [update for update in batch.updates if update.scope.run_id not in self.ended]
        if batch.updates and not left:
            raise RunRefusedError(execution_id=batch.execution_id)
        return batch if len(left) == len(batch.updates) else batch._replace(updates=left)

    def append_all(self, batches: Sequence[Batch]) -> Sequence[int | Exception]:
        self.rounds.append(batches)
        if self.raises and any(batch.execution_id in self.broken for batch in batches):
            raise RuntimeError("the log's own mistake")
        results: list[int | Exception] = []
        for batch in batches:
            try:
                results.append(self.append(batch))
            except Exception as error:  # noqa: BLE001 (what the protocol promises)
                results.append(error)
        return results

    async def end_for(
        self, execution_id: str, process_id: str | None, make_update: Callable[[str], PendingUpdate]
    ) -> bool:
        self._check()
        return await self.memory.end_for(execution_id, process_id, make_update)

    async def keep_open(self, execution_id: str) -> bool:
        return await self.memory.keep_open(execution_id)

    async def take_over(self, execution_id: str, process_id: str | None) -> str | None:
        return await self.memory.take_over(execution_id, process_id)

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

    async def list_newest(
        self, *, before: Start | None = None, limit: int = 500, owner: str | None = None
    ) -> Sequence[Start]:
        self._check()
        return await self.memory.list_newest(before=before, limit=limit, owner=owner)

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
        self.closed_at.append(sum(len(self.stored(each)) for each in await self.memory.executions()))

    def stored(self, execution_id: str = "e") -> Sequence[StoredUpdate]:
        found = read_now(self.memory, execution_id, 0, 1_000_000)
        return () if found is None else found.records
