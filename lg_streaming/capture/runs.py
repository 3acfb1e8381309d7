"""The LangChain runs of this process that matter here: which graph call, node or tool each belongs to.

A run is known by its id from its start to its end. What a call, a model or a tool belongs to follows from the run it
was started in, and only where that says nothing, from the context.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lg_streaming.scope import Binding, Block, Frame, current_block, current_frame

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from lg_streaming.capture.calls import GraphCall
    from lg_streaming.capture.follow import ToolCall
    from lg_streaming.capture.model_call import ModelCall
    from lg_streaming.capture.node import NodeFrame, NodeRun
    from lg_streaming.capture.plan import GraphPlan

__all__ = ["RUNS", "Place", "Run", "Runs"]


class Run:
    """One LangChain run."""

    __slots__ = (
        "_listener",
        "_turn",
        "by",
        "call",
        "children_wrapped",
        "copies",
        "frame",
        "handlers",
        "ids",
        "is_node",
        "model",
        "namespace",
        "opened",
        "own_plan",
        "plan",
        "root",
        "tool",
    )

    def __init__(self, by: object, parent: Run | None, frame: NodeFrame | None, namespace: str | None) -> None:
        self.by = by
        """The handler that publishes what happens in it; others see the same."""
        self.root: GraphCall | None = None
        """The graph call whose root it is."""
        self.opened: NodeRun | None = None
        """The node that it is, captured without a decorator."""
        self.tool: ToolCall | None = None
        """The tool call that it is."""
        self.copies = 0
        """How often the handler is attached beyond once."""
        self._turn = 0
        self._listener: object = None
        self.model: ModelCall | None = None
        """The model call that it is."""
        self.call: GraphCall | None = parent.call if parent is not None else frame.call if frame is not None else None
        """The graph call it is part of."""
        self.frame = frame
        """The captured node or tool it is part of."""
        self.namespace = namespace
        """LangGraph's checkpoint namespace."""
        self.is_node = parent is not None and namespace is not None and namespace != parent.namespace
        """Whether it is the run of a node of a graph."""
        self.plan: GraphPlan | None = parent.plan if parent is not None else None
        """What to capture of the nodes below it; None for nothing beside decorated nodes."""
        self.own_plan = False
        """Whether the plan begins with this run: it is a decorated graph's."""
        self.children_wrapped = False
        """Whether the nodes right below it capture themselves, as those of a decorated graph do."""
        self.handlers: tuple[object, ...] = parent.handlers if parent is not None else ()
        """The handlers for whose graph this run, or one above it, is the root."""
        self.ids: set[UUID] = frame.run_ids if frame is not None else parent.ids if parent is not None else set()
        """The ids of all runs that are forgotten with its frame, or without one with its root."""

    def meet_again(self, handler: object) -> None:
        """Notes that one handler is attached several times: it then sees everything as often."""
        self.copies += handler is self.by

    def is_heard_by(self, handler: object) -> bool:
        """Whether ``handler`` is to publish this call of a model; the first that asks is."""
        if self._listener is None:
            self._listener = self.by = handler
            self.copies = 0
            return True
        return False

    def is_published_by(self, handler: object) -> bool:
        """Whether ``handler`` is to publish the event that it sees: each once, whichever handlers see it."""
        if handler is not self.by:
            return False
        if not self.copies:
            return True
        self._turn = (self._turn + 1) % (self.copies + 1)
        return self._turn == 1


class Place(NamedTuple):
    """What a call belongs to: a frame, a block or a graph call; of several the innermost."""

    frame: NodeFrame | None = None
    block: Block | None = None
    call: GraphCall | None = None

    @property
    def binding(self) -> Binding | None:
        """The execution of the frame or the block, or that of the graph call where it is known already."""
        if self.frame is not None:
            return self.frame.binding
        if self.block is not None:
            return self.block.binding
        return self.call.binding if self.call is not None else None


class Runs:
    """The table of runs."""

    def __init__(self) -> None:
        self._runs: dict[UUID, Run] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def get(self, run_id: UUID | None) -> Run | None:
        """The run of this id; None where it is not known or has ended."""
        return self._runs.get(run_id) if run_id is not None else None

    def model_of(self, run_id: UUID, handler: object) -> ModelCall | None:
        """Return the model call of this run, where ``handler`` is to publish the event that it sees."""
        run = self._runs.get(run_id)
        if run is None or run.model is None or run.by is not handler:
            return None
        return run.model if not run.copies or run.is_published_by(handler) else None

    def start(
        self,
        by: object,
        run_id: UUID,
        parent_id: UUID | None,
        metadata: Mapping[str, Any] | None,
        *,
        root: bool = False,
    ) -> tuple[Run, bool]:
        """The run of this id, and whether it is new: several handlers may see one run start.

        A run that belongs to nothing is remembered only as a `root`, which a handler makes something of.
        """
        run = self._runs.get(run_id)
        if run is not None:
            run.meet_again(by)
            return run, False
        parent = self.get(parent_id)
        frame = self.frame_at(parent)
        run = Run(by, parent, frame, metadata.get("langgraph_checkpoint_ns") if metadata else None)
        if frame is not None or parent is not None or root:
            self._keep(run_id, run)
        return run, True

    def _keep(self, run_id: UUID, run: Run) -> None:
        self._runs[run_id] = run
        run.ids.add(run_id)

    def adopt(self, by: object, run_id: UUID, frame: NodeFrame, namespace: str | None) -> None:
        """Makes what is started in the run of a node belong to that node, also where no context reaches."""
        run = self._runs.get(run_id)
        if run is None:
            run = Run(by, None, frame, namespace)
            self._keep(run_id, run)
        else:
            run.by, run.frame = by, frame

    def end(self, run_id: UUID) -> Run | None:
        """Forgets a run, and returns it."""
        run = self._runs.pop(run_id, None)
        if run is not None:
            run.ids.discard(run_id)
        return run

    def forget(self, ids: set[UUID]) -> None:
        """Forgets runs that did not report their end."""
        for run_id in list(ids):
            self._runs.pop(run_id, None)
        ids.clear()

    def frame_at(self, run: Run | None) -> NodeFrame | None:
        """The node or tool that a run started in `run` belongs to: an ambient one inside `run`, else the run's own."""
        ambient = _ambient()
        if run is None or (ambient is not None and _lies_in(ambient, run)):
            return ambient
        return run.frame if run.frame is None or not run.frame.ended else None

    def place_of(self, parent_id: UUID | None) -> Place | None:
        """What a call belongs to that was started in the run of this id.

        The run's id comes first: the config that the call was given names it. Then the block and the node of the
        context, of which the inner one counts, and last the activated module, which sees every graph call.
        """
        run, frame, block = self.get(parent_id), _ambient(), current_block()
        if run is not None and (run.frame is not None or (run.call is not None and run.call.explicit)):
            inner = self.frame_at(run)
            if block is not None and _entered_in(block, run, inner):
                return Place(block=block)
            return Place(frame=inner) if inner is not None else Place(call=run.call)
        if block is not None and (frame is None or frame.block is not block):
            return Place(block=block)
        if frame is not None:
            return Place(frame=frame)
        return Place(call=run.call) if run is not None and run.call is not None else None


def _ambient() -> Any:
    return current_frame()


def _lies_in(frame: NodeFrame, run: Run) -> bool:
    """Whether a frame was entered in what `run` belongs to."""
    if run.frame is None:
        return run.call is not None and frame.call is run.call
    return _is_at_or_in(frame, run.frame)


def _is_at_or_in(frame: Frame | None, outer: Frame) -> bool:
    while frame is not None and frame is not outer:
        frame = frame.outer
    return frame is outer


def _entered_in(block: Block, run: Run, frame: NodeFrame | None) -> bool:
    """Whether a block was entered in the frame, or without one in the graph call, of `run`."""
    if frame is not None:
        return _is_at_or_in(block.frame, frame)
    return block.call is not None and block.call is run.call


RUNS: Final = Runs()
