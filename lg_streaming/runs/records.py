"""Records of runs: the facts with which another process goes on with a run."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal, Self, cast

import orjson

from lg_streaming.backoff import LOG_BACKOFF
from lg_streaming.errors import LogUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.capture import RunnableConfig
    from lg_streaming.log.fleet import Fleet

__all__ = ["RECORD_KEY", "OnAbandoned", "RecordStore", "RunRecord", "json_config", "json_value"]

logger: logging.Logger = logging.getLogger(__name__)

OnAbandoned = Literal["end", "resume"]
"""Handling of a run whose process dies or stops while it works. ``end``: it ends with ``workflow_abandoned``.
``resume``: another process goes on from the last checkpoint."""

RECORD_KEY: Final = "lg_streaming_run_key"
"""Name of the ``configurable`` value that LangGraph stores with each checkpoint of a run: its record.

LangGraph gives values with ``key`` in their name to no tracer.
"""
_KIND: Final = "run"
_MAX_CHECKPOINT_RECORD: Final = 16_384
_OWN_VALUES: Final = frozenset(
    {"thread_id", "checkpoint_id", "checkpoint_ns", "checkpoint_map", "execution_id", RECORD_KEY}
)
_CLOSE_TIMEOUT: Final = 2.0
_REFRESHES: Final = 3
"""Number of times that a record is stored again within its lifetime."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """Facts about a run of a registered graph. All values are JSON values."""

    graph: str
    execution_id: str
    thread_id: str
    run_id: str
    owner: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    context: Any = None
    call_options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    on_abandoned: OnAbandoned = "end"
    on_disconnect: str = "continue"
    deadline: float | None = None
    """Time at which the run fails, in seconds since 1970; None for no limit."""
    input: Any = None
    """Input of a run that another process may begin again; None if it is no JSON value."""
    resumed_from: str | None = None
    """The run that it continues, under whose id checkpoints may be stored."""
    answers: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Answers to some of the open prompts, while others are open."""
    process_id: str | None = None
    """Process that drives the run."""

    @classmethod
    def parse(cls, value: object) -> Self | None:
        """Return the record of a stored value; None for a value of another form, as of another version."""
        if not isinstance(value, dict):
            return None
        try:
            return cls(**cast("dict[str, Any]", value))
        except TypeError:
            return None

    def to_json(self) -> dict[str, Any]:
        """Return the record as a JSON object.

        Raises:
            TypeError: If a value is no JSON value.
        """
        return cast("dict[str, Any]", orjson.loads(orjson.dumps(asdict(self), default=_plain)))

    def for_checkpoints(self) -> str | None:
        """Return the text that is stored with each checkpoint; None for one over 16 KiB."""
        text = orjson.dumps(replace(self, input=None, answers={}, process_id=None).to_json()).decode()
        return text if len(text) <= _MAX_CHECKPOINT_RECORD else None

    @classmethod
    def from_checkpoint(cls, metadata: Mapping[str, Any] | None) -> Self | None:
        """Return the record in the metadata of a checkpoint, or None."""
        text = (metadata or {}).get(RECORD_KEY)
        if not isinstance(text, str):
            return None
        try:
            return cls.parse(orjson.loads(text))
        except orjson.JSONDecodeError:
            return None


def json_value(value: object) -> Any:
    """Return a value if it is the same after a round trip through JSON, otherwise None."""
    try:
        again = orjson.loads(orjson.dumps(value))
    except TypeError:
        return None
    return again if again == value else None


def _plain(value: object) -> object:
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise TypeError(f"{type(value).__name__} is no JSON value")
    return dump(mode="json")


def json_config(config: RunnableConfig | None) -> dict[str, Any]:
    """Return the parts of a config that another process needs: values, limits, tags and metadata.

    Callbacks are left out, and the values that LangGraph and this library set.
    """
    given = cast("dict[str, Any]", config or {})
    kept = {name: given[name] for name in ("tags", "metadata", "recursion_limit", "max_concurrency") if given.get(name)}
    configurable: dict[str, Any] = given.get("configurable") or {}
    values = {
        name: value for name, value in configurable.items() if name not in _OWN_VALUES and not name.startswith("__")
    }
    return kept | ({"configurable": values} if values else {})


class RecordStore:
    """Store of the records of this process's runs, in the values of a fleet.

    Changes are stored in the background, in order, and again after a failure of the log.

    Args:
        fleet: The processes.
        ttl: Seconds for which a record is kept after its last refresh.
    """

    def __init__(self, fleet: Fleet, ttl: float) -> None:
        self._fleet = fleet
        self._ttl = ttl
        self._open: dict[str, RunRecord] = {}
        self._changed: dict[str, RunRecord] = {}
        """Records to store or, without an entry in `_open`, to remove."""
        self._writing: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._stored = asyncio.Event()

    def put(self, record: RunRecord) -> None:
        """Store a record, and refresh it until `remove`."""
        self._open[record.execution_id] = record
        self._change(record)

    def remove(self, record: RunRecord) -> None:
        """Remove the record of a run that has ended."""
        if self._close(record):
            self._change(record)

    def release(self, record: RunRecord) -> None:
        """Leave the record of a run to the process that goes on with it."""
        if self._close(record):
            self._changed.pop(record.execution_id, None)

    def _close(self, record: RunRecord) -> bool:
        mine = self._open.get(record.execution_id)
        if mine is None or mine.run_id != record.run_id:
            return False
        del self._open[record.execution_id]
        return True

    def _change(self, record: RunRecord) -> None:
        self._changed[record.execution_id] = record
        self._stored.clear()
        self._wake.set()
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write(), name="lg-streaming records of runs")

    async def get(self, execution_id: str) -> RunRecord | None:
        """Return the record of an execution, or None. Raises LogUnavailableError."""
        return RunRecord.parse(await self._fleet.get(_KIND, execution_id))

    async def all(self) -> list[RunRecord]:
        """Return the records of all open runs of the fleet. Raises LogUnavailableError."""
        found = [RunRecord.parse(value) for value in (await self._fleet.values(_KIND)).values()]
        return [record for record in found if record is not None]

    async def flush(self) -> None:
        """Wait until all changes are stored."""
        if self._changed:
            await self._stored.wait()

    async def drop(self, record: RunRecord) -> None:
        """Remove the stored record of a run, unless it is that of a later run. Raises LogUnavailableError."""
        found = RunRecord.parse(await self._fleet.take(_KIND, record.execution_id))
        if found is not None and found.run_id != record.run_id:
            await self._fleet.put(_KIND, found.execution_id, found.to_json(), ttl=self._ttl)

    async def aclose(self) -> None:
        """Store what has changed, for up to 2 seconds, and stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self.flush()
        task, self._writing = self._writing, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _write(self) -> None:
        """Store changes, and refresh open records, until no run is open."""
        attempt = 0
        while self._changed or self._open:
            self._wake.clear()
            pause: float | None = None
            try:
                await self._write_changes()
                attempt = 0
                if not self._changed:
                    self._stored.set()
            except LogUnavailableError as error:
                if not attempt:
                    logger.warning("the records of runs are not stored yet: %s", error)
                pause, attempt = LOG_BACKOFF.seconds(attempt, lambda: 1.0), attempt + 1
            if not self._changed or pause is not None:
                await self._rest(pause)

    async def _write_changes(self) -> None:
        for execution_id, record in list(self._changed.items()):
            if self._open.get(execution_id) is record:
                await self._fleet.put(_KIND, execution_id, record.to_json(), ttl=self._ttl)
            elif execution_id not in self._open:
                await self.drop(record)
            if self._changed.get(execution_id) is record:
                del self._changed[execution_id]

    async def _rest(self, pause: float | None) -> None:
        if not self._open and pause is None:
            return
        try:
            async with asyncio.timeout(self._ttl / _REFRESHES if pause is None else pause):
                await (self._wake.wait() if pause is None else asyncio.sleep(pause + 1))
        except TimeoutError:
            if pause is None:
                self._changed.update(self._open)
