"""Graph, states and forks of an execution, for the caller of a session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from lg_streaming.errors import ForbiddenError, GraphNotFoundError, TransitionError
from lg_streaming.gateway.session.starting import answer_of_start, check_id, forbidden_id, log_refusal, remote_config
from lg_streaming.runs import RemoteFork, describe_graph
from lg_streaming.shorten import shorten

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.gateway.protocol.state_models import ForkBody, StatesQuery
    from lg_streaming.gateway.session.session import Session
    from lg_streaming.log.base import LogState
    from lg_streaming.runs import ExecutionGraph, RemoteRunner

__all__ = ["fork_run", "graph_of", "list_states", "state_at"]

_PAGE_BYTES: Final = 2_097_152
"""Most bytes of a page of states; each of them gets an equal share."""
_LEAST_BYTES: Final = 16_384
_RUN_KEY: Final = "lg_streaming_run_id"
_SHOWN_METADATA: Final = ("source", "step", "parents")
"""Metadata of a checkpoint that callers get. LangGraph adds the ``configurable`` values, which may be secrets."""


async def graph_of(session: Session, execution_id: str) -> dict[str, Any]:
    """Return nodes and edges of the graph of an execution's last run.

    Raises:
        ForbiddenError: If the caller may not read the execution.
        GraphNotFoundError: If this process does not know the graph.
    """
    await _check_read(session, execution_id)
    _, source = await _source(session, execution_id)
    return {"name": source.name, **describe_graph(source.graph)}


async def list_states(session: Session, execution_id: str, query: StatesQuery) -> dict[str, Any]:
    """Return a page of the states of an execution's thread, newest first.

    Raises:
        ForbiddenError: If the caller may not read the execution, or the one that has the thread's id.
        GraphNotFoundError: If this process does not know the graph.
        TransitionError: If the graph has no checkpointer.
    """
    await _check_read(session, execution_id)
    runner, source = await _thread(session, execution_id)
    room = max(_LEAST_BYTES, _PAGE_BYTES // query.limit)
    history = runner.threads.history(source.graph, source.thread_id, limit=query.limit + 1, before=query.before)
    states = [_bounded(_shown(each), room) async for each in history]
    page = states[: query.limit]
    following = page[-1]["checkpoint_id"] if len(states) > len(page) else None
    return {"execution_id": execution_id, "graph": source.name, "states": page, "next": following}


async def state_at(session: Session, execution_id: str, checkpoint_id: str) -> dict[str, Any]:
    """Return the whole state of a checkpoint. Raises like `list_states`.

    Raises:
        BadRequestError: If the thread has no such checkpoint.
    """
    await _check_read(session, execution_id)
    runner, source = await _thread(session, execution_id)
    found = await runner.threads.state(source.graph, source.thread_id, checkpoint_id)
    return {} if found is None else _shown(found)


async def fork_run(session: Session, execution_id: str, body: ForkBody, *, root: str = "") -> dict[str, Any]:
    """Start a new execution of the caller that goes on from a checkpoint, and return the answer of a start.

    Args:
        session: The caller's session.
        execution_id: The original, which stays as it is.
        body: The arguments.
        root: Path under which the application is mounted.

    Raises:
        ForbiddenError: If the caller may not read and control the original, start its graph, or choose the new id.
        GraphNotFoundError: If this process does not know the graph.
        TransitionError: If the graph has no checkpointer, or the new execution exists.
        StreamingError: If `RemoteRunner.fork` raises it.
    """
    session.context.admission.starts.hit(session.caller)
    policy, principal = session.policy, session.principal
    await _check_read(session, execution_id)
    state = await session.check("control", execution_id)
    runner, source = await _thread(session, execution_id)
    if not source.is_registered or not await policy.allows_start(principal, source.name, session.peer):
        missing = "neither a grant nor authorize allows its start" if source.is_registered else "it is not registered"
        log_refusal(session, f"{source.name!r:.80}: {missing}")
        raise ForbiddenError("the graph is not registered, or you may not start it", execution_id=execution_id)
    owner = state.owner if state is not None else None
    only_input = policy.only_owns(principal, "control", execution_id, owner)
    if only_input and body.as_node is not None:
        raise ForbiddenError("as_node needs a grant of the action control", execution_id=execution_id)
    if body.execution_id is not None:
        await check_id(session, source.name, body.execution_id)
    request = RemoteFork(
        execution_id=execution_id,
        checkpoint_id=body.checkpoint_id,
        values=body.values,
        as_node=body.as_node,
        new_execution_id=body.execution_id,
        config=None if body.config is None else remote_config(body.config),
        only_input=only_input,
    )
    try:
        run = await runner.fork(request, source, principal.subject)
    except ForbiddenError:  # another process started it just now
        raise forbidden_id(body.execution_id) from None
    return answer_of_start(session, run, root)


async def _check_read(session: Session, execution_id: str) -> LogState:
    """Return the state of an execution that the caller may read.

    Raises:
        ForbiddenError: If the caller may not, or it does not exist.
    """
    state = await session.check("read", execution_id)
    if state is None:
        raise ForbiddenError(execution_id=execution_id)
    return state


async def _source(session: Session, execution_id: str) -> tuple[RemoteRunner, ExecutionGraph]:
    runner = session.context.remote_runner
    if runner is None:
        raise GraphNotFoundError("this server knows no graphs", execution_id=execution_id)
    return runner, await runner.runner.execution_graphs.find(execution_id)


async def _thread(session: Session, execution_id: str) -> tuple[RemoteRunner, ExecutionGraph]:
    """Return the graph of an execution whose thread the caller may read.

    Raises:
        ForbiddenError: If the thread has the id of another execution, which the caller may not read.
        TransitionError: If the graph has no checkpointer.
    """
    runner, source = await _source(session, execution_id)
    if source.thread_id != execution_id and await session.hub.describe(source.thread_id) is not None:
        await session.check("read", source.thread_id)
    if not source.has_checkpointer:
        raise TransitionError(
            f"graph {source.name!r} has no checkpointer, so it keeps no states: pass one to compile(), such as "
            "InMemorySaver()",
            execution_id=execution_id,
        )
    return runner, source


def _shown(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state with the ids of its checkpoint, and only those metadata that have no value of the application."""
    metadata: Mapping[str, Any] = state["metadata"] or {}
    shown = {name: metadata[name] for name in _SHOWN_METADATA if name in metadata}
    if _RUN_KEY in metadata:
        shown["run_id"] = metadata[_RUN_KEY]
    parent = state["parent_checkpoint"]
    return {
        "checkpoint_id": state["checkpoint"]["checkpoint_id"],
        "parent_checkpoint_id": None if parent is None else parent["checkpoint_id"],
        **state,
        "metadata": shown,
        "has_errors": any(task["error"] for task in state["tasks"]),
    }


def _bounded(state: dict[str, Any], room: int) -> dict[str, Any]:
    """Return a state in at most ``room`` bytes of JSON; ``truncated`` has the bytes of the fields that were cut."""
    json = orjson.dumps(state)
    return state if len(json) <= room else orjson.loads(shorten(json, room))
