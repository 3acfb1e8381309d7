"""Start runs of graphs for the caller of a session."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from lg_streaming.errors import BadRequestError, ForbiddenError
from lg_streaming.gateway.auth.policy import GRAPH_PREFIX
from lg_streaming.observability.logs import log_event
from lg_streaming.runs import RemoteConfig, RemoteStart

if TYPE_CHECKING:
    from collections.abc import Container

    from lg_streaming.gateway.protocol.inbound import StartConfig, StartExecution
    from lg_streaming.gateway.session.session import Session
    from lg_streaming.runs import GraphRun

__all__ = [
    "answer_of_start",
    "check_id",
    "execution_url",
    "forbidden_id",
    "list_graphs",
    "log_refusal",
    "may_start_any",
    "remote_config",
    "start_graph",
    "start_run",
]

logger: logging.Logger = logging.getLogger("lg_streaming.gateway")

_RESERVED: Final = ("room:", GRAPH_PREFIX)
_NO_ID: Final = "there is no such execution, or it is not yours: leave the id out for a new one, or have it granted"
_INTERFERES: Final = frozenset({"cancel", "rollback"})
"""Values of `if_running` that end another run."""


async def list_graphs(session: Session) -> dict[str, Any]:
    """Return names and schemas of the graphs that the caller may start."""
    runner = session.context.remote_runner
    if runner is None:
        return {"graphs": []}
    allows = session.policy.allows_start
    allowed = [name for name in runner.graphs if await allows(session.principal, name, session.peer)]
    return {"graphs": [{"name": name, **runner.schemas(name).describe()} for name in allowed]}


async def may_start_any(session: Session) -> bool:
    """Return whether the caller may start one of the graphs."""
    runner = session.context.remote_runner
    for name in () if runner is None else runner.graphs:
        if await session.policy.allows_start(session.principal, name, session.peer):
            return True
    return False


async def start_run(session: Session, message: StartExecution, *, root: str = "") -> dict[str, Any]:
    """Start a run that the caller owns, and return the answer to `start_execution`.

    Args:
        session: The caller's session.
        message: The arguments.
        root: Path under which the application is mounted.

    Raises:
        ForbiddenError: If the caller may not start the graph, or the graph is unknown. If the execution or the thread
            is not the caller's, or is unknown and the caller may not choose its id.
        BadRequestError: If an argument does not fit the graph.
        StartRateError: If the caller starts too many runs.
        StreamingError: If `GraphRunner.start` raises it.
    """
    return answer_of_start(session, await start_graph(session, _request(message)), root)


async def start_graph(session: Session, request: RemoteStart, *, own_ids: Container[str] = frozenset()) -> GraphRun:
    """Start a run that the caller owns. Raises like `start_run`.

    Args:
        session: The caller's session.
        request: The arguments.
        own_ids: Ids that the caller has got from the server, and so may use before their first run.
    """
    session.context.admission.starts.hit(session.caller)
    runner = session.context.remote_runner
    allowed = await session.policy.allows_start(session.principal, request.graph, session.peer)
    if not allowed or runner is None or request.graph not in runner.graphs:
        missing = "streaming.graphs has no such graph" if allowed else "neither a grant nor authorize allows its start"
        log_refusal(session, f"{request.graph!r:.80}: {missing}")
        raise ForbiddenError("there is no such graph, or you may not start it")
    for name in dict.fromkeys((request.execution_id, request.thread_id)):
        if name is not None and (name not in own_ids or await session.hub.describe(name) is not None):
            await check_id(session, request.graph, name, if_running=request.if_running)
    try:
        run = await runner.start(request, session.principal.subject)
    except ForbiddenError:  # another process started it just now
        raise forbidden_id(request.execution_id) from None
    await asyncio.sleep(0)  # the run takes its turn, or its place in the queue
    return run


def forbidden_id(execution_id: str | None) -> ForbiddenError:
    """Return the error for an id under which a caller may not start, whether it is another's or unknown."""
    return ForbiddenError(_NO_ID, execution_id=execution_id)


async def check_id(session: Session, graph: str, name: str, *, if_running: str = "reject") -> None:
    """Check that the caller may start a graph in an execution, or with a thread, of this id.

    An execution without an owner has a history that the new owner could read: the caller needs `control` of it.
    """
    if name.startswith(_RESERVED):
        raise BadRequestError(f"an execution's id may not begin with {' or '.join(_RESERVED)}")
    policy, principal, address = session.policy, session.principal, session.peer.address
    state = await session.hub.describe(name)
    owner = state.owner if state is not None else None
    if not await policy.allows_start_in(principal, graph, name, owner, address=address):
        log_refusal(
            session,
            f"the execution {name!r:.80} has another owner"
            if owner is not None
            else f"the caller chose the id {name!r:.80}: its grant's 'executions' lack it",
        )
        raise forbidden_id(name)
    if state is not None and (owner is None or if_running in _INTERFERES):
        await policy.check(principal, "control", name, owner, address=address)


def log_refusal(session: Session, reason: str) -> None:
    """Log the reason of a refusal, which the answer withholds from the caller."""
    log_event(logger, logging.INFO, "gateway.start.refused", subject=session.principal.subject, reason=reason)


def _request(message: StartExecution) -> RemoteStart:
    config = message.config
    return RemoteStart(
        graph=message.graph,
        input=message.input,
        execution_id=message.execution_id,
        thread_id=message.thread_id,
        config=None if config is None else remote_config(config),
        context=message.context,
        metadata=message.metadata,
        if_running=message.if_running,
        on_disconnect=message.on_disconnect,
        deadline=message.deadline,
        idempotency_key=message.idempotency_key,
    )


def remote_config(config: StartConfig) -> RemoteConfig:
    """Return the parts of a config that a caller has sent."""
    return RemoteConfig(
        configurable=config.configurable,
        recursion_limit=config.recursion_limit,
        tags=tuple(config.tags),
        metadata=config.metadata,
    )


def execution_url(prefix: str, execution_id: str) -> str:
    """Return the path of an execution, below a prefix."""
    return f"{prefix}/executions/{quote(execution_id, safe='')}"


def answer_of_start(session: Session, run: GraphRun, root: str) -> dict[str, Any]:
    """Return the answer to a start."""
    gateway = session.context.settings.gateway
    position = None if run.after is None else str(run.after)
    path = f"{execution_url(root + gateway.prefix, run.execution_id)}/stream"
    query = "" if position is None else f"?after={position}"
    return {
        "ok": True,
        "execution_id": run.execution_id,
        "run_id": run.run_id,
        "thread_id": run.thread_id,
        "state": run.status,
        "position": position,
        "stream_url": path + query if "sse" in gateway.transports else None,
    }
