"""Progress in virtual time: nodes that let time pass, and what leaves of what they report."""

from collections.abc import Callable
from typing import Any

from reactivex.testing import TestScheduler

from lg_streaming import ProgressTracker, StreamingModule, current_progress, stream_progress
from lg_streaming.emitter import Emitter
from lg_streaming.pipeline import ProgressOptions
from lg_streaming.timer import use_scheduler
from tests.capture.graphs import Input, Run, State, Update, graph_of, read

INPUT: Input = {"topic": "rivers"}
Body = Callable[[ProgressTracker, Callable[[float], None]], Any]
"""Body of a node, with its progress and a function that advances the clock."""


async def run_node(streaming: StreamingModule, body: Body, *, execution_id: str = "e", **options: Any) -> Run:
    """The updates of a node with ``@stream_progress(**options)`` in a graph, in virtual time."""
    clock = TestScheduler()

    @stream_progress(**options)
    def node(state: State) -> Update:
        body(current_progress(), clock.advance_by)
        return {}

    with use_scheduler(clock):
        await graph_of(node).ainvoke(INPUT, streaming.config(execution_id=execution_id))
    return await read(streaming, execution_id)


def reports(run: Run) -> list[dict[str, Any]]:
    return [update.data for update in run.of("progress")]


def percentages(run: Run) -> list[float]:
    return [data["progress"] for data in reports(run)]


class Recorder(Emitter):
    """Keeps what it is given, with the virtual time."""

    def __init__(self, clock: TestScheduler) -> None:
        super().__init__(None, "")
        self.clock = clock
        self.said: list[tuple[float, str, dict[str, Any]]] = []

    def event(self, type: str, data: Any = None, **options: Any) -> None:
        self.said.append((self.clock.to_seconds(self.clock.now), type, data))

    def of(self, type: str) -> list[dict[str, Any]]:
        return [data for _, kind, data in self.said if kind == type]

    def times(self, type: str = "progress") -> list[float]:
        return [round(at, 6) for at, kind, _ in self.said if kind == type]


def tracker(**options: Any) -> tuple[ProgressTracker, Recorder, TestScheduler]:
    """A tracker that has begun, its updates, and its clock."""
    clock = TestScheduler()
    recorder = Recorder(clock)
    progress = ProgressTracker(recorder, ProgressOptions.from_arguments(**options), scheduler=clock)
    progress.begin()
    return progress, recorder, clock
