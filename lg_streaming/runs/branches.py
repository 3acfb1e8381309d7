"""Copy a checkpoint of a thread, with the states before it, into a new thread: the beginning of a fork.

LangGraph forks inside one thread, whose newest state is then that of the fork. People who watch the original would see
the fork's steps among its own steps. If the original waits, it would go on from the fork's state. So a fork gets a
separate thread, and the original does not change.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, cast

from lg_streaming.errors import BadRequestError, TransitionError
from lg_streaming.runs.records import RECORD_KEY
from lg_streaming.runs.registry import checkpointer_of
from lg_streaming.runs.steering import check_fields, check_node

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple

    from lg_streaming.capture import RunnableConfig
    from lg_streaming.runs.registry import AnyGraph

__all__ = ["check_fork", "copy_branch", "saver_of"]

_MAX_STATES: Final = 100
"""Most states that are copied, so that the cost of a fork does not rise with the age of its thread."""
_DELTA_COUNTERS: Final = "counters_since_delta_snapshot"


def saver_of(graph: AnyGraph) -> BaseCheckpointSaver[Any]:
    """Return the checkpointer of a graph.

    Raises:
        TransitionError: If it has none.
    """
    found = checkpointer_of(graph)
    if found is None:
        raise TransitionError(
            "the graph has no checkpointer, so its threads have no checkpoints: pass one to compile(), such as "
            "InMemorySaver()"
        )
    return found


def check_fork(graph: AnyGraph, values: Any, as_node: str | None, options: Mapping[str, Any]) -> None:
    """Check the arguments of a fork, before its thread is made.

    Raises:
        BadRequestError: If one cannot be used.
        TransitionError: If the graph has no checkpointer.
    """
    saver_of(graph)
    if values is not None:
        check_fields(graph, values)
    if as_node is not None:
        check_node(graph, as_node)
    for name in ("execution_id", "thread_id", "idempotency_key", "forked_from"):
        if name in options:
            raise BadRequestError(f"a fork takes no {name}: it is a new execution with a new thread")


async def copy_branch(graph: AnyGraph, thread_id: str, checkpoint_id: str, new_thread_id: str) -> CheckpointTuple:
    """Copy a checkpoint and the newest states before it; return the checkpoint in its old thread.

    The results of the nodes after the checkpoint are left out: they run again. A subgraph with its own memory
    keeps the state that it had then.

    Args:
        graph: The graph, with a checkpointer.
        thread_id: The thread.
        checkpoint_id: The checkpoint, which the new thread goes on from.
        new_thread_id: A thread without checkpoints.

    Raises:
        BadRequestError: If the thread has no such checkpoint.
        TransitionError: If the graph has no checkpointer, or the new thread has checkpoints.
    """
    saver = saver_of(graph)
    if await saver.aget_tuple(_config(new_thread_id)) is not None:
        raise TransitionError(f"the thread {new_thread_id!r:.80} exists: choose another id for the fork")
    chain = await _branch(saver, _config(thread_id, checkpoint_id=checkpoint_id)) if checkpoint_id else []
    if not chain:
        raise BadRequestError(f"the thread has no checkpoint {checkpoint_id!r:.80}: take an id of history()")
    await _copy(saver, chain, new_thread_id)
    for namespace in _namespaces_with_memory(graph):
        before = _config(thread_id, checkpoint_id=checkpoint_id)
        found = [each async for each in saver.alist(_config(thread_id, namespace), before=before, limit=1)]
        for each in found:  # a saver may be locked while it lists
            await _copy(saver, await _branch(saver, each.config), new_thread_id, namespace)
    return chain[-1]


async def _branch(saver: BaseCheckpointSaver[Any], config: RunnableConfig) -> list[CheckpointTuple]:
    """Return a checkpoint and those before it, oldest first."""
    found: list[CheckpointTuple] = []
    missing: set[str] = set()
    at: RunnableConfig | None = config
    while at is not None and (len(found) < _MAX_STATES or missing):
        each = await saver.aget_tuple(at)
        if each is None:
            break
        if not found:  # channels that keep only their changes need the states back to their last snapshot
            missing = set(cast("Mapping[str, Any]", each.metadata).get(_DELTA_COUNTERS) or ())
        found.append(each)
        missing -= each.checkpoint["channel_values"].keys()
        at = each.parent_config
    return found[::-1]


async def _copy(
    saver: BaseCheckpointSaver[Any], chain: list[CheckpointTuple], thread_id: str, namespace: str = ""
) -> None:
    parent = _config(thread_id, namespace)
    known: Mapping[str, Any] = {}
    for each in chain:
        versions = each.checkpoint["channel_versions"]
        changed = {name: version for name, version in versions.items() if known.get(name) != version}
        metadata: Any = {name: value for name, value in each.metadata.items() if name != RECORD_KEY}
        parent = await saver.aput(parent, each.checkpoint, metadata, changed)
        known = versions
        if each is not chain[-1]:
            for task_id, writes in _by_task(each):
                await saver.aput_writes(parent, writes, task_id)


def _by_task(found: CheckpointTuple) -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    for task_id, writes in groupby(found.pending_writes or (), key=lambda write: write[0]):
        yield task_id, [(channel, value) for _, channel, value in writes]


def _config(thread_id: str, namespace: str = "", *, checkpoint_id: str | None = None) -> RunnableConfig:
    configurable = {"thread_id": thread_id, "checkpoint_ns": namespace}
    return {"configurable": configurable if checkpoint_id is None else {**configurable, "checkpoint_id": checkpoint_id}}


def _namespaces_with_memory(graph: AnyGraph) -> list[str]:
    """Return the checkpoint namespaces of the subgraphs that keep their state from call to call."""
    subgraphs: Any = cast("Any", graph).get_subgraphs(recurse=True)
    return [namespace for namespace, subgraph in subgraphs if getattr(subgraph, "checkpointer", None) is True]
