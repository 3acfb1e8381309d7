"""The graph's own start and end: when a run of an execution begins and how it comes out.

A tracker is a plain callback handler (it does not make models stream) that notes the root runs of graphs. It
says nothing until a decorated node enters: a graph without any stays silent, and only the node's config tells
which execution the run belongs to. A call that ``streaming.config(execution_id=…)`` gave its execution is that
execution's run from its first moment, so that its readers hear of a graph that fails before any decorated node.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.runnables.config import merge_configs
from langchain_core.tracers.context import register_configure_hook
from langgraph.callbacks import GraphCallbackHandler
from langgraph.errors import GraphInterrupt

from lg_streaming.errors import StreamingError, describe_error
from lg_streaming.fork import new_event, new_lock
from lg_streaming.scope import Binding, Outcome, publishers

if TYPE_CHECKING:
    from uuid import UUID

    from langchain_core.runnables import RunnableConfig
    from langgraph.callbacks import GraphInterruptEvent

    from lg_streaming.scope import Publisher

__all__ = ["RunTracker", "activate_tracking", "binding_of", "graph_config", "tracker_var"]

logger = logging.getLogger(__name__)


class _Root:
    """One call of a graph."""

    __slots__ = ("_binding", "_lock", "_refused", "interrupted", "name", "run_id", "run_ids", "started")

    def __init__(self, run_id: UUID, name: str) -> None:
        self.run_id = run_id
        self.name = name
        self.run_ids = {run_id}
        self.interrupted = False
        self.started = time.perf_counter()
        self._lock = new_lock()  # parallel sync nodes enter on several threads
        self._binding: Binding | None = None
        self._refused = False

    def enter(self, publisher: Publisher, execution_id: str, owner: str | None) -> Binding | None:
        """The execution's binding; the first decorated node to enter joins the run."""
        with self._lock:
            if self._binding is None and not self._refused:
                self._refused = True  # asked once: a node must not fail again and again for what the first was told
                run_id = publisher.enter_run(execution_id, owner=owner, name=self.name)
                self._binding = Binding(publisher, execution_id, run_id)
            return self._binding

    def resume(self, publisher: Publisher, execution_id: str) -> None:
        """Joins the execution's run if that waits for a human: this call may be what goes on with it."""
        run_id = publisher.resume_run(execution_id)
        if run_id is not None:
            self._refused = True
            self._binding = Binding(publisher, execution_id, run_id)

    def leave(self, outcome: Outcome) -> None:
        """Leaves the run, where a decorated node had joined it."""
        binding = self._binding
        if binding is not None:
            binding.publisher.leave_run(binding.execution_id, binding.run_id, outcome)


class RunTracker(GraphCallbackHandler):
    """Follows graph calls from their root to their end.

    Args:
        publisher: Where updates go; None for the publisher that is the process default at the time.
        execution_id: The execution of every call; None to take it from each call's config.
        owner: Who owns the execution.
    """

    run_inline = True
    raise_error = False

    def __init__(
        self, publisher: Publisher | None = None, execution_id: str | None = None, owner: str | None = None
    ) -> None:
        self._publisher = publisher
        self._execution_id = execution_id
        self._owner = owner
        self._roots: dict[UUID, _Root] = {}

    @property
    def ignore_llm(self) -> bool:
        """Not heard."""
        return True

    @property
    def ignore_chat_model(self) -> bool:
        """Not heard."""
        return True

    @property
    def ignore_agent(self) -> bool:
        """Not heard."""
        return True

    @property
    def ignore_retriever(self) -> bool:
        """Not heard."""
        return True

    @property
    def ignore_custom_event(self) -> bool:
        """Not heard."""
        return True

    def bind(self, parent_run_id: UUID | None, config: RunnableConfig) -> Binding | None:
        """The execution of the node whose parent run this is; None when the run is not known."""
        root = self._roots.get(parent_run_id) if parent_run_id is not None else None
        publisher = self._publisher or publishers.default
        if root is None or publisher is None:
            return None
        execution_id = self._execution_id or _configured_id(config) or str(root.run_id)
        return root.enter(publisher, execution_id, self._owner)

    def on_chain_start(
        self,
        serialized: dict[str, Any],  # noqa: ARG002
        inputs: dict[str, Any],  # noqa: ARG002
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        """Notes a root run, and what runs below it."""
        if parent_run_id is None:
            publisher = self._publisher or publishers.default
            if publisher is not None:
                self._roots[run_id] = root = _Root(run_id, str(kwargs.get("name") or "graph"))
                metadata: dict[str, Any] = kwargs.get("metadata") or {}
                self._begin(root, publisher, metadata.get("thread_id"))
            return
        root = self._roots.get(parent_run_id)
        if root is not None:
            self._roots[run_id] = root
            root.run_ids.add(run_id)

    def _begin(self, root: _Root, publisher: Publisher, thread_id: object) -> None:
        """A call that was given its execution is its run from the start; others are when a decorated node enters."""
        try:
            if self._execution_id is not None:
                root.enter(publisher, self._execution_id, self._owner)
            elif thread_id is not None:
                root.resume(publisher, str(thread_id))
        except StreamingError as error:
            logger.warning("%s runs without streaming: %s", root.name, error)

    def on_chain_end(self, outputs: dict[str, Any], *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """The root ended well, or waits for a human."""
        if (root := self._pop(run_id)) is not None:
            duration = {"duration_s": round(time.perf_counter() - root.started, 6)}
            root.leave(Outcome("workflow_interrupted" if root.interrupted else "workflow_complete", duration))

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """The root failed or was cancelled; or something below it was interrupted."""
        if isinstance(error, GraphInterrupt) and (below := self._roots.get(run_id)) is not None:
            below.interrupted = True
        if (root := self._pop(run_id)) is None:
            return
        if isinstance(error, (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt)):
            root.leave(Outcome("workflow_cancelled", {}))
        elif isinstance(error, GraphInterrupt):
            root.leave(Outcome("workflow_interrupted", {}))
        else:
            publisher = self._publisher or publishers.default
            debug = publisher is not None and publisher.debug
            root.leave(Outcome("workflow_error", {"error": describe_error(error, debug=debug)}))

    def on_interrupt(self, event: GraphInterruptEvent) -> None:
        """A graph waits for a human, at an ``interrupt()`` or a breakpoint."""
        root = self._roots.get(event.run_id) if event.run_id is not None else None
        if root is not None:
            root.interrupted = True

    def _pop(self, run_id: UUID) -> _Root | None:
        """The root, when the run that ended is one."""
        root = self._roots.pop(run_id, None)
        if root is None:
            return None
        root.run_ids.discard(run_id)
        if root.run_id != run_id:
            return None
        for below in root.run_ids:
            self._roots.pop(below, None)
        return root


def _configured_id(config: RunnableConfig) -> str | None:
    configurable = config.get("configurable") or {}
    found = configurable.get("execution_id") or configurable.get("thread_id")
    return str(found) if found is not None else None


def binding_of(config: RunnableConfig | None) -> Binding | None:
    """The execution a node's config leads to; None when it leads to none.

    The tracker of ``streaming.config(...)`` comes first, then the one of the activated module.
    """
    callbacks = config.get("callbacks") if config is not None else None
    if config is None or not isinstance(callbacks, BaseCallbackManager):
        return None
    for handler in callbacks.handlers:
        if isinstance(handler, RunTracker) and handler is not _DEFAULT:
            binding = handler.bind(callbacks.parent_run_id, config)
            if binding is not None:
                return binding
    return _DEFAULT.bind(callbacks.parent_run_id, config)


def graph_config(
    config: RunnableConfig | None, publisher: Publisher, *, execution_id: str | None, owner: str | None
) -> RunnableConfig:
    """``config`` with what makes a graph called with it an execution; what it holds is kept."""
    known = execution_id or (_configured_id(config) if config is not None else None)
    ours: RunnableConfig = {"callbacks": [RunTracker(publisher, known, owner)]}
    if execution_id is not None:
        ours["configurable"] = {"execution_id": execution_id}
    return merge_configs(config, ours)


_DEFAULT: Final = RunTracker()
tracker_var: ContextVar[RunTracker | None] = ContextVar("lg_streaming_tracker", default=_DEFAULT)
"""The tracker that sees every graph once a module is activated. Its default makes it known on every thread and task;
it is None inside decorated nodes, where nothing new begins."""
_registered = new_event()


def activate_tracking() -> None:
    """Lets the default tracker see every graph of this process, from now on. Harmless when repeated."""
    if not _registered.is_set():
        _registered.set()
        register_configure_hook(tracker_var, inheritable=True)
