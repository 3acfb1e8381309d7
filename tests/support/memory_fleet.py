"""Several processes in one: fleets that exchange requests in memory, and a log for each on one `MemoryLog`."""

import asyncio
import inspect
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from lg_streaming.errors import LogUnavailableError, NoAnswerError
from lg_streaming.log import Batch, LogState, MemoryLog, ReadResult
from lg_streaming.log.base import Listener, PendingUpdate, PositionListener, Start
from lg_streaming.log.fleet import CountLimit, Fleet, MessageHandler, ProcessInfo, RateLimit, RequestHandler

_OPEN = {"running", "interrupted"}


class Network:
    """State that the processes share."""

    def __init__(self) -> None:
        self.memory = MemoryLog()
        self.fleets: dict[str, MemoryFleet] = {}
        self.claims: dict[str, str] = {}
        self.store: dict[tuple[str, str], Any] = {}
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self.holders: dict[str, str | None] = {}
        self.hits: Counter[tuple[str, str]] = Counter()
        self.away = False

    def check(self) -> None:
        if self.away:
            raise LogUnavailableError

    def join(self, name: str) -> "MemoryFleet":
        fleet = self.fleets[name] = MemoryFleet(self, name)
        return fleet

    def log(self, name: str) -> "SharedLog":
        return SharedLog(self, self.join(name))


def _wire(payload: object) -> Any:
    return orjson.loads(orjson.dumps(payload))


class MemoryFleet:
    """One process. Its event loop runs in a thread, like that of a connection to Redis."""

    def __init__(self, network: Network, process_id: str) -> None:
        self.process_id: str = process_id
        self.alive = True
        self.deaf = False
        """True if requests get no answer."""
        self._network = network
        self._requests: dict[str, RequestHandler] = {}
        self._messages: dict[str, list[MessageHandler]] = {}
        self._lost: list[Callable[[str], None]] = []
        self._report: Callable[[], Mapping[str, Any]] = dict
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._serving: threading.Thread | None = None
        self.stopped = False

    def on_request(self, name: str, handler: RequestHandler) -> None:
        self._requests[name] = handler

    async def request(self, process_id: str, name: str, payload: object, *, timeout: float | None = None) -> Any:
        fleet = self._network.fleets.get(process_id)
        if fleet is None or not fleet.alive or fleet.deaf:
            raise NoAnswerError
        sent = _wire(payload)

        async def answer() -> Any:
            return _wire(await fleet._requests[name](sent))

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(answer(), fleet.loop))

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        if self._serving is threading.current_thread():
            return asyncio.get_running_loop()
        self.stopped = False
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._serving = self._thread = threading.Thread(target=self._serve, args=(self._loop,), daemon=True)
            self._thread.start()
        return self._loop

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.get_loop().run_forever()

    def stop(self) -> None:
        loop, thread = self._loop, self._thread
        self.stopped = True
        self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    def publish(self, topic: str, payload: object) -> None:
        for fleet in list(self._network.fleets.values()):
            if fleet is not self and fleet.alive and not fleet.stopped:
                for handler in list(fleet._messages.get(topic, ())):
                    fleet.loop.call_soon_threadsafe(handler, _wire(payload))

    def on_message(self, topic: str, handler: MessageHandler) -> Callable[[], None]:
        self._messages.setdefault(topic, []).append(handler)
        return lambda: self._messages[topic].remove(handler)

    def spawn(self, job: Callable[[], Awaitable[object]]) -> None:
        async def run() -> None:
            result = job()
            if inspect.isawaitable(result):
                await result

        asyncio.run_coroutine_threadsafe(run(), self.loop)

    async def claim(self, name: str) -> bool:
        self._network.check()
        holder = self._network.claims.get(name)
        if holder is not None and holder != self.process_id and self._network.fleets[holder].alive:
            return False
        self._network.claims[name] = self.process_id
        return True

    def release(self, name: str) -> None:
        if self._network.claims.get(name) == self.process_id:
            del self._network.claims[name]

    def on_claim_lost(self, handler: Callable[[str], None]) -> Callable[[], None]:
        self._lost.append(handler)
        return lambda: self._lost.remove(handler)

    def lose(self, name: str, to: str) -> None:
        """As after a long pause: another process has taken the claim."""
        self._network.claims[name] = to
        for handler in self._lost:
            self.loop.call_soon_threadsafe(handler, name)

    def on_lease_lost(self, handler: Callable[[str], None]) -> Callable[[], None]:
        return lambda: None

    async def put(self, kind: str, key: str, value: object, *, ttl: float) -> None:
        self._network.check()
        self._network.store[kind, key] = _wire(value)

    async def get(self, kind: str, key: str) -> Any:
        self._network.check()
        return self._network.store.get((kind, key))

    async def take(self, kind: str, key: str) -> Any:
        return self._network.store.pop((kind, key), None)

    async def values(self, kind: str) -> Mapping[str, Any]:
        self._network.check()
        return {key: value for (each, key), value in self._network.store.items() if each == kind}

    async def count(self, kind: str, key: str, change: int) -> int:
        self._network.check()
        self._network.counts[kind, key, self.process_id] += change
        return sum(self._network.counts[kind, key, name] for name, fleet in self._network.fleets.items() if fleet.alive)

    async def admit(
        self, rates: Sequence[RateLimit], counts: Sequence[CountLimit] = ()
    ) -> RateLimit | CountLimit | None:
        self._network.check()
        totals = [await self.count(each.kind, each.key, 1) for each in counts]
        hits = self._network.hits
        for rate in rates:
            if hits[rate.kind, rate.key] >= rate.amount:
                return rate
        for rate in rates:
            hits[rate.kind, rate.key] += rate.hits
        return next((each for each, total in zip(counts, totals, strict=True) if total > each.most), None)

    def discount(self, counts: Sequence[CountLimit]) -> None:
        for each in counts:
            self._network.counts[each.kind, each.key, self.process_id] -= 1

    def set_report(self, report: Callable[[], Mapping[str, Any]]) -> None:
        self._report = report

    async def processes(self) -> Sequence[ProcessInfo]:
        return [
            ProcessInfo(
                process_id=name,
                host="here",
                pid=1,
                version="0",
                started_at=time.time(),
                seen_at=time.time(),
                report=_wire(fleet._report()),
            )
            for name, fleet in self._network.fleets.items()
            if fleet.alive
        ]

    @property
    def live(self) -> frozenset[str]:
        return frozenset(name for name, fleet in self._network.fleets.items() if fleet.alive)


class SharedLog:
    """The log of one process. It knows which process holds a run, and leaves out starts and ends of guests."""

    blocking = False
    recheck: float | None = None

    def __init__(self, network: Network, fleet: MemoryFleet) -> None:
        self.fleet: Fleet | None = fleet
        self._fleet = fleet
        self._network = network
        self._memory = network.memory

    def append(self, batch: Batch) -> int:
        here, holders = self._fleet.process_id, self._network.holders
        held = holders.get(batch.execution_id)
        updates: list[PendingUpdate] = []
        for update in batch.updates:
            if update.type == "workflow_start":
                if held not in {None, here}:
                    continue
                held = here
            elif update.type in {"workflow_complete", "workflow_cancelled", "workflow_error", "workflow_abandoned"}:
                if held != here:
                    continue
                held = None
            updates.append(update)
        holders[batch.execution_id] = held
        return self._memory.append(batch._replace(updates=updates, at=None)) if updates else 0

    def append_all(self, batches: Sequence[Batch]) -> Sequence[int | Exception]:
        return [self.append(batch) for batch in batches]

    async def end_for(
        self, execution_id: str, process_id: str | None, make_update: Callable[[str], PendingUpdate]
    ) -> bool:
        state = await self._memory.state(execution_id)
        if self._network.holders.get(execution_id) != process_id or state is None or state.start_record is None:
            return False
        self._network.holders[execution_id] = None
        update = make_update(state.start_record.scope.run_id or "")
        self._memory.append(Batch(execution_id, [update], f"end-{time.monotonic_ns()}", 1))
        return True

    async def keep_open(self, execution_id: str) -> bool:
        return self._network.holders.get(execution_id) == self._fleet.process_id

    async def take_over(self, execution_id: str, process_id: str | None) -> str | None:
        state = await self._memory.state(execution_id)
        if state is None or state.start_record is None or state.ended:
            return None
        if self._network.holders.get(execution_id) != process_id:
            return None
        self._network.holders[execution_id] = self._fleet.process_id
        return state.start_record.scope.run_id

    def watch(self, execution_id: str) -> Callable[[], None]:
        return self._memory.watch(execution_id)

    async def read(self, execution_id: str, after: int, limit: int) -> ReadResult | None:
        found = await self._memory.read(execution_id, after, limit)
        return None if found is None else replace(found, state=self._with_holder(execution_id, found.state))

    async def state(self, execution_id: str) -> LogState | None:
        state = await self._memory.state(execution_id)
        return None if state is None else self._with_holder(execution_id, state)

    def _with_holder(self, execution_id: str, state: LogState) -> LogState:
        return replace(state, process=self._network.holders.get(execution_id))

    async def executions(self) -> Sequence[str]:
        return await self._memory.executions()

    async def list_ids(
        self, *, after: str = "", limit: int = 500, owner: str | None = None, prefix: str = ""
    ) -> Sequence[str]:
        return await self._memory.list_ids(after=after, limit=limit, owner=owner, prefix=prefix)

    async def list_newest(
        self, *, before: Start | None = None, limit: int = 500, owner: str | None = None
    ) -> Sequence[Start]:
        return await self._memory.list_newest(before=before, limit=limit, owner=owner)

    async def drop(self, execution_id: str) -> None:
        await self._memory.drop(execution_id)

    def listen(self, listener: Listener) -> Callable[[], None]:
        return self._memory.listen(listener)

    def listen_positions(self, listener: PositionListener) -> Callable[[], None]:
        return self._memory.listen_positions(listener)

    async def ready(self) -> None:
        pass

    def trim(self, limit: int | None = None) -> bool:
        return self._memory.trim(limit)

    async def aclose(self) -> None:
        await asyncio.to_thread(self._fleet.stop)
