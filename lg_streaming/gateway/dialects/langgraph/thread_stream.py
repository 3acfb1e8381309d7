"""The stream of a thread: all its runs, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import orjson

from lg_streaming.gateway.delivery.frames import Frames
from lg_streaming.gateway.dialects.langgraph.encoder import RunEncoder
from lg_streaming.gateway.dialects.langgraph.reader import data_of
from lg_streaming.gateway.dialects.langgraph.segments import resumes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from lg_streaming.errors import StreamingError
    from lg_streaming.events import Position
    from lg_streaming.gateway.delivery.frames import FrameEncoder
    from lg_streaming.hub import Page
    from lg_streaming.log.base import ExecutionState, StoredUpdate

    FindRun = Callable[[StoredUpdate], Awaitable[RunEncoder | None]]

__all__ = ["THREAD_MODES", "ThreadEncoder"]

THREAD_MODES: Final = frozenset({"run_modes", "lifecycle", "state_update"})


class ThreadEncoder:
    """Encoder of the frames of all runs of a thread, see `EventStreamEncoder`. It never ends.

    Args:
        modes: Some of `THREAD_MODES`: the frames that each run was started with; the begin and the end of each run; the
            state after each step.
        find: Returns the encoder of the run that begins with an update.
        after: Number of the update up to which the reader has all frames.
    """

    shared: bool = False
    cuts: bool = True
    is_complete: bool = False
    keep_alive: bytes = b": heartbeat\n\n"

    def __init__(self, modes: frozenset[str], find: FindRun, *, after: int) -> None:
        self._modes = modes
        self._find = find
        self._after = after
        self._run: RunEncoder | None = None
        self._begins: dict[int, RunEncoder] = {}

    @property
    def frame_encoder(self) -> FrameEncoder:
        """See `EventStreamEncoder.frame_encoder`."""
        return self

    async def prepare(self, page: Page) -> None:
        """See `PreparingEncoder.prepare`. Find the runs that begin in a page."""
        for record in page.records:
            if record.type == "workflow_start" or (record.type == "status" and resumes(record)):
                found = await self._find(record)
                if found is not None:
                    self._begins[record.seq] = found
        for run in (self._run, *self._begins.values()):
            if run is not None:
                await run.prepare(page)

    def encode(self, execution_id: str, records: Sequence[StoredUpdate]) -> Frames:
        """See `FrameEncoder.encode`."""
        out: list[bytes] = []
        count = 0
        for record in records:
            begins = self._begins.pop(record.seq, None)
            if begins is not None:
                self._run = begins
            run = self._run
            if run is None:
                continue
            frames = run.encode(execution_id, (record,))
            shown = [frames.wire] if "run_modes" in self._modes else []
            count += frames.count if shown else 0
            shown += self._own_frames(record, run, begins=begins is not None)
            out += shown
            if run.is_complete:
                self._run = None
        return Frames(b"".join(out), count=count)

    def _own_frames(self, record: StoredUpdate, run: RunEncoder, *, begins: bool) -> list[bytes]:
        frames: list[bytes] = []
        if record.seq <= self._after:
            return frames
        place = b"id: %b:%d\n\n" % (record.epoch.encode(), record.seq)
        if "lifecycle" in self._modes and (begins or run.is_complete):
            shown = {"event": "run_started" if begins else "run_done", "run_id": run.run_id}
            frames.append(b"event: lifecycle\ndata: %b\n%b" % (orjson.dumps(shown), place))
        if "state_update" in self._modes and record.type == "state" and not record.scope.namespace:
            data = data_of(record)
            shown = {name: data.get(name) for name in ("values", "next", "checkpoint_id", "step")}
            frames.append(b"event: state_update\ndata: %b\n%b" % (orjson.dumps(shown), place))
        return frames

    def before_stream(self, retry_ms: int, status: Mapping[str, object]) -> bytes:  # noqa: ARG002 (clients ignore it)
        """See `EventStreamEncoder.before_stream`. The headers go out with a first byte."""
        return self.keep_alive

    def encode_event(self, event: str, payload: object) -> bytes:
        """See `EventStreamEncoder.encode_event`."""
        return b"" if self._run is None else self._run.encode_event(event, payload)

    def caught_up(self) -> bytes:
        """See `EventStreamEncoder.caught_up`."""
        return b""

    def on_end(
        self,
        position: Position | None,  # noqa: ARG002 (frames have ids)
        *,
        run_is_over: bool,  # noqa: ARG002 (the stream has no end)
        state: ExecutionState | None = None,  # noqa: ARG002 (see above)
    ) -> bytes:
        """See `EventStreamEncoder.on_end`."""
        return b""

    def on_error(self, error: StreamingError) -> bytes:  # noqa: ARG002 (the connection breaks)
        """See `EventStreamEncoder.on_error`."""
        return b""

    def on_restart(self, event: str, retry_ms: int) -> bytes:  # noqa: ARG002 (the connection breaks)
        """See `EventStreamEncoder.on_restart`."""
        return b""
