"""Replay recorded runs in the executions of a module."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lg_streaming.errors import BadRequestError
from lg_streaming.hub.callbacks import call_in_thread
from lg_streaming.hub.open_options import OpenOptions, owner_text
from lg_streaming.publisher import RunOutcome
from lg_streaming.testing.replaying.graph import CUT_OFF, replay_graph
from lg_streaming.testing.replaying.ids import RenewedIds
from lg_streaming.testing.replaying.pace import Pace, check_speed
from lg_streaming.testing.replaying.player import RunPlayer
from lg_streaming.testing.replaying.reading import members
from lg_streaming.testing.replaying.recording import Recording

if TYPE_CHECKING:
    from lg_streaming.hub.options import Owner
    from lg_streaming.module import StreamingModule
    from lg_streaming.testing.replaying.recording import RecordedRun

__all__ = ["Replay", "replay"]

_PAUSE: Final = 1.0
"""Seconds between runs of a recording, where no run was open for longer; and between rounds of a loop."""
_LONGEST_NAME: Final = 128
_STOPPED: Final = RunOutcome("workflow_cancelled", {"reason": "the replay was stopped"})
_FAILED: Final = RunOutcome("workflow_abandoned", {"reason": "replay_failed"})

logger: logging.Logger = logging.getLogger("lg_streaming.testing")


class Replay:
    """Recorded runs that are replayed now. `replay` makes it.

    Args:
        streaming: The module.
        recording: The recording.
        speed: Factor on the recorded pace.
        pause_at_prompts: Whether prompts wait for a reader's answer.
        owner: Owner of the executions.
    """

    def __init__(
        self,
        streaming: StreamingModule,
        recording: Recording,
        *,
        speed: float,
        pause_at_prompts: bool,
        owner: str | None,
    ) -> None:
        self.recording: Recording = recording
        self._hub = streaming.hub
        self._speed = speed
        self._pauses = pause_at_prompts
        self._owner = owner
        self._tasks: list[asyncio.Task[None]] = []

    async def wait(self) -> None:
        """Wait until all executions were replayed; without an end for a loop.

        Raises:
            ExecutionExistsError: If an execution of this id has an open run.
            StreamingError: If the hub was closed, or its log cannot be reached.
        """
        await asyncio.gather(*self._tasks)

    def start(self, *, loop: bool) -> None:
        """Replay each execution, side by side, once or again and again."""
        starts = start_times(self.recording.runs)
        began = asyncio.get_running_loop().time()
        for execution_id, runs in self.recording.executions.items():
            times = [(run, began + starts[id(run)] / self._speed) for run in runs]
            name = f"lg-streaming replay {execution_id}"
            task = asyncio.create_task(self._replay(execution_id, times, loop=loop), name=name)
            task.add_done_callback(_log_failure)
            self._tasks.append(task)

    async def stop(self) -> None:
        """End the open runs as cancelled."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _replay(self, execution_id: str, runs: list[tuple[RecordedRun, float]], *, loop: bool) -> None:
        for number in itertools.count(1):
            for run, at in runs:
                await asyncio.sleep(max(0.0, at - asyncio.get_running_loop().time()))
                await self._replay_run(execution_id, run, RenewedIds(number))
            if not loop:
                return
            await asyncio.sleep(_PAUSE)

    async def _replay_run(self, execution_id: str, run: RecordedRun, ids: RenewedIds) -> None:
        """Open a run, publish the recorded updates, and end it as recorded."""
        hub = self._hub
        run_id = self._open(execution_id, run)
        player = RunPlayer(hub, execution_id, run_id, pace=Pace(self._speed), ids=ids, pause_at_prompts=self._pauses)
        playing = asyncio.create_task(player.play(self.recording.updates(run)))
        stop_listening = hub.on_cancel(execution_id, lambda _reason: playing.cancel())
        outcome: RunOutcome | None = _STOPPED
        try:
            await asyncio.wait({playing})
            failure = None if playing.cancelled() else playing.exception()
            if failure is not None:
                outcome = _FAILED
                raise failure
            if playing.cancelled():
                reason = hub.runs.cancel_reason(execution_id, run_id)
                outcome = RunOutcome("workflow_cancelled", {"reason": reason} if reason else {})
            else:
                final = playing.result()
                outcome = CUT_OFF if final is None else RunOutcome(final.type, ids.data(members(final.data)))
        finally:
            playing.cancel()
            stop_listening()
            hub.runs.end_run(execution_id, outcome, run_id)
            await hub.writer.flush()

    def _open(self, execution_id: str, run: RecordedRun) -> str:
        """Open the run with the data of the recorded start; return its id."""
        options = OpenOptions(
            owner=self._owner, metadata=members(run.start.get("metadata")), recorded=run.start, join=True, fresh=True
        )
        return self._hub.runs.opener.open(execution_id, options)


def _log_failure(task: asyncio.Task[None]) -> None:
    """Log why a replay ended too early: its program may wait for none of them."""
    failure = None if task.cancelled() else task.exception()
    if failure is not None:
        logger.error("%s has failed: %s", task.get_name(), failure, exc_info=failure)


@asynccontextmanager
async def replay(
    streaming: StreamingModule,
    path: str | Path | Recording,
    *,
    speed: float = 1.0,
    executions: Iterable[str] | None = None,
    pause_at_prompts: bool = False,
    loop: bool = False,
    play: bool = True,
    graph: str | None = "replay",
    owner: Owner | None = None,
) -> AsyncGenerator[Replay]:
    """Replay recorded runs in the executions of a module, for the time of a block.

    ``async with replay(streaming, "run.jsonl", speed=4) as replayed: await replayed.wait()``

    Readers of every wire get the recorded updates: the same types, data, scopes and order, with the pauses between
    them. Positions, times and ids of runs are new. Executions of one file are replayed side by side, the runs of each
    one after the other. Time in which no run was open is shortened to a second. A recording that was cut off ends with
    ``workflow_abandoned``. Readers may answer prompts and cancel.

    ``streaming.graphs`` gets a graph of the name ``graph``, and one for each recorded graph whose name is free. Each
    start of one replays the recording in a new run. See `replay_graph`.

    Args:
        streaming: The module.
        path: The file, which a `JsonLinesSink` has written; plain or compressed with gzip; ``-`` is the standard input.
            Or an open recording, which stays open.
        speed: Factor on the recorded pace: 2 is twice as fast; ``math.inf`` makes no pauses.
        executions: The executions of the file to replay; None for all.
        pause_at_prompts: True waits at each prompt for a reader's answer. Otherwise the recorded answer comes at its
            time, unless a reader is faster.
        loop: Whether to begin again a second after the end, as a further run.
        play: False only registers the graphs.
        graph: Name of the graph; None registers none.
        owner: Owner of the executions.

    Raises:
        BadRequestError: If the file or an option cannot be used.
        OSError: If the file cannot be read.
    """
    check_speed(speed)
    if isinstance(path, Recording):
        opened: AbstractContextManager[Recording] = nullcontext(path)
    else:
        opened = await call_in_thread(lambda: Recording(path, executions=executions))
    with opened as recording:
        replayed = Replay(streaming, recording, speed=speed, pause_at_prompts=pause_at_prompts, owner=owner_text(owner))
        names: list[str] = []
        try:
            if graph is not None:
                names = _register(streaming, recording, graph, speed=speed, pause_at_prompts=pause_at_prompts)
            if play:
                replayed.start(loop=loop)
            yield replayed
        finally:
            for name in names:
                del streaming.graphs[name]
            await replayed.stop()


def _register(
    streaming: StreamingModule, recording: Recording, graph: str, *, speed: float, pause_at_prompts: bool
) -> list[str]:
    """Register graphs that replay the recording; return their names.

    The graph of the name ``graph`` replays the first execution. A recorded graph replays the first execution that
    began with it. With several executions the id of each is a name, too.
    """
    if graph in streaming.graphs:
        raise BadRequestError(f"streaming.graphs has a graph named {graph!r}: pass another name, graph=…")
    wanted: dict[str, list[RecordedRun]] = {graph: next(iter(recording.executions.values()))}
    for runs in recording.executions.values():
        wanted.setdefault(runs[0].graph or graph, runs)
    if len(recording.executions) > 1:
        wanted = {**recording.executions, **wanted}
    found = {name: runs for name, runs in wanted.items() if name not in streaming.graphs and _is_name(name)}
    for name, runs in found.items():
        streaming.graphs[name] = replay_graph(
            streaming.hub, recording, runs, name=name, speed=speed, pause_at_prompts=pause_at_prompts
        )
    return list(found)


def _is_name(name: str) -> bool:
    return 0 < len(name) <= _LONGEST_NAME and name.isprintable() and " " not in name


def start_times(runs: Iterable[RecordedRun]) -> Mapping[int, float]:
    """Return the seconds from the first run to each run, by its identity, without long times in which none was open."""
    ordered = sorted(runs, key=lambda run: run.first_at)
    times: dict[int, float] = {}
    skipped, latest = 0.0, ordered[0].first_at
    for run in ordered:
        idle = (run.first_at - latest).total_seconds()
        skipped += max(0.0, idle - _PAUSE)
        latest = max(latest, run.last_at)
        times[id(run)] = (run.first_at - ordered[0].first_at).total_seconds() - skipped
    return times
