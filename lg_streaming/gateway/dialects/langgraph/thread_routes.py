"""Routes of threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from starlette.responses import Response

from lg_streaming.errors import BadRequestError, ForbiddenError, GraphNotFoundError, TransitionError
from lg_streaming.gateway.dialects.langgraph.bodies import (
    CheckpointBody,
    CreateThread,
    HistoryBody,
    PatchThread,
    StateBody,
    StateUpdate,
    parse_body,
)
from lg_streaming.gateway.dialects.langgraph.refusals import BUSY, RefusedError, no_thread
from lg_streaming.gateway.dialects.langgraph.runs import flag, number_in
from lg_streaming.gateway.dialects.langgraph.search import ThreadSearch
from lg_streaming.gateway.dialects.langgraph.states import shown_state
from lg_streaming.gateway.dialects.langgraph.threads import as_it_waits, wait_for_run
from lg_streaming.gateway.protocol.responses import json_response

if TYPE_CHECKING:
    from starlette.requests import Request

    from lg_streaming.gateway.auth.peer import Peer
    from lg_streaming.gateway.dialects.langgraph.services import Services
    from lg_streaming.gateway.dialects.langgraph.threads import ThreadView
    from lg_streaming.gateway.dialects.wire import Wire
    from lg_streaming.gateway.session.session import Session

__all__ = ["ThreadRoutes"]


class ThreadRoutes:
    """Routes of threads: records, states, history.

    Args:
        wire: The wire, which admits callers and reads bodies.
        services: What the routes of the wire share.
    """

    def __init__(self, wire: Wire, services: Services) -> None:
        self._wire = wire
        self._services = services
        self._search = ThreadSearch(services)

    async def create(self, request: Request, peer: Peer) -> Response:
        """Create a thread."""
        session = await self._wire.enter(peer)
        body = parse_body(CreateThread, await self._wire.body(request))
        view = await self._services.threads.create(session, body)
        return json_response(await self._services.threads.describe(view))

    async def get(self, request: Request, peer: Peer) -> Response:
        """Return a thread."""
        session, view = await self._enter(request, peer)
        del session
        return json_response(await self._services.threads.describe(view))

    async def patch(self, request: Request, peer: Peer) -> Response:
        """Merge metadata into those of a thread."""
        session, view = await self._enter_to_change(request, peer)
        body = parse_body(PatchThread, await self._wire.body(request))
        threads = self._services.threads
        await threads.remember(session, view.thread_id, graph=view.graph, metadata=body.metadata)
        return json_response(await threads.describe(await threads.find(session, view.thread_id)))

    async def delete(self, request: Request, peer: Peer) -> Response:
        """Delete a thread."""
        _, view = await self._enter_to_change(request, peer)
        services = self._services
        runs = await services.lookup.runs_of(view)
        await services.threads.delete(view)
        for each in runs:
            services.pending.close(each.run_id)
        return Response(status_code=204)

    async def search(self, request: Request, peer: Peer) -> Response:
        """Return threads that the caller may read."""
        session = await self._wire.enter(peer)
        return await self._search.search(session, await self._wire.body(request))

    async def count(self, request: Request, peer: Peer) -> Response:
        """Return the number of threads that the caller may read."""
        session = await self._wire.enter(peer)
        return await self._search.count(session, await self._wire.body(request))

    # --- states ---------------------------------------------------------------------------------------------

    async def state(self, request: Request, peer: Peer) -> Response:
        """Return the newest state, or that of the checkpoint in the path."""
        _, view = await self._enter(request, peer)
        subgraphs = flag(request, "subgraphs")
        checkpoint_id = request.path_params.get("checkpoint_id")
        return await self._state(view, checkpoint_id, subgraphs=subgraphs)

    async def state_at(self, request: Request, peer: Peer) -> Response:
        """Return the state of the checkpoint in the body."""
        _, view = await self._enter(request, peer)
        body = parse_body(StateBody, await self._wire.body(request))
        checkpoint = body.checkpoint or CheckpointBody()
        return await self._state(
            view,
            checkpoint.checkpoint_id,
            subgraphs=body.subgraphs is True,
            namespace=checkpoint.checkpoint_ns or "",
        )

    async def _state(
        self, view: ThreadView, checkpoint_id: str | None, *, subgraphs: bool, namespace: str = ""
    ) -> Response:
        runner = self._services.context.remote_runner
        found = None
        if checkpoint_id is None and not subgraphs and not namespace:
            found = await self._services.threads.snapshot(view)
        elif runner is not None and view.graph is not None:
            try:
                found = await runner.threads.state(
                    view.graph, view.thread_id, checkpoint_id, subgraphs=subgraphs, namespace=namespace
                )
            except (BadRequestError, TransitionError, GraphNotFoundError):
                found = None
        if found is None and checkpoint_id is not None:
            raise RefusedError(404, f"Checkpoint {checkpoint_id:.100} of thread {view.thread_id} not found")
        busy = view.is_busy and checkpoint_id is None
        return json_response(shown_state(found, busy=busy))

    async def update_state(self, request: Request, peer: Peer) -> Response:
        """Update the state of a thread that no run works on."""
        session, view = await self._enter_to_change(request, peer)
        body = parse_body(StateUpdate, await self._wire.body(request))
        named = body.checkpoint.checkpoint_id if body.checkpoint is not None else None
        checkpoint_id = await self._update(session, view, body, body.checkpoint_id or named)
        checkpoint = {"thread_id": view.thread_id, "checkpoint_ns": "", "checkpoint_id": checkpoint_id}
        return json_response({"checkpoint": checkpoint, "checkpoint_id": checkpoint_id})

    async def _update(self, session: Session, view: ThreadView, body: StateUpdate, checkpoint_id: str | None) -> str:
        runner = self._services.context.remote_runner
        if view.is_busy:
            raise RefusedError(409, BUSY)
        if runner is None or view.graph is None:
            raise RefusedError(409, "the thread has no graph yet: start a run first")
        owner = view.state.owner if view.state is not None else (view.record or {}).get("owner")
        only_input = session.policy.only_owns(session.principal, "control", view.thread_id, owner)
        if only_input and body.as_node is not None:
            raise RefusedError(403, "as_node needs a grant of the action control")
        if view.waits:
            await session.hub.cancel(view.thread_id, "the state is changed")
            await wait_for_run(session.hub, view.thread_id)
        try:
            return await runner.edit(
                view.graph,
                view.thread_id,
                body.values,
                as_node=body.as_node,
                checkpoint_id=checkpoint_id,
                only_input=only_input,
            )
        except TransitionError as error:
            raise RefusedError(409, error.message) from None

    async def history(self, request: Request, peer: Peer) -> Response:
        """Return the states of a thread, newest first."""
        _, view = await self._enter(request, peer)
        body = await self._history_body(request)
        runner = self._services.context.remote_runner
        if runner is None or view.graph is None or view.graph not in runner.graphs:
            return json_response([])
        before, namespace = (
            _before(body),
            (body.checkpoint.checkpoint_ns if body.checkpoint is not None else None) or "",
        )
        states = runner.threads.history(
            view.graph,
            view.thread_id,
            limit=body.limit or 1,
            before=before,
            metadata=_own_metadata(body.metadata),
            namespace=namespace,
        )
        try:
            found = [each async for each in states]
        except ValueError as error:  # LangGraph's, for a namespace without a subgraph
            raise RefusedError(422, str(error)[:300]) from None
        shown = [shown_state(each) for each in found]
        if found and before is None and not namespace:
            shown[0] = shown_state(as_it_waits(found[0], view), busy=view.is_busy)
        return json_response(shown)

    async def _history_body(self, request: Request) -> HistoryBody:
        if request.method != "GET":
            return parse_body(HistoryBody, await self._wire.body(request))
        limit, before = request.query_params.get("limit") or None, request.query_params.get("before") or None
        return parse_body(HistoryBody, {"limit": None if limit is None else number_in(limit, 0), "before": before})

    # --- callers --------------------------------------------------------------------------------------------

    async def _enter(self, request: Request, peer: Peer) -> tuple[Session, ThreadView]:
        session = await self._wire.enter(peer)
        return session, await self._services.threads.find(session, request.path_params["thread_id"])

    async def _enter_to_change(self, request: Request, peer: Peer) -> tuple[Session, ThreadView]:
        session = await self._wire.enter(peer)
        thread_id = request.path_params["thread_id"]
        try:
            return session, await self._services.threads.find(session, thread_id, "control")
        except ForbiddenError:
            raise no_thread(thread_id) from None


def _before(body: HistoryBody) -> str | None:
    """Return the id of the checkpoint before which a history begins.

    Raises:
        RefusedError: If it is no text.
    """
    found: Any = body.before
    if isinstance(found, dict):  # a config, or a checkpoint
        fields = cast("dict[str, Any]", found)
        named: Any = fields.get("configurable")
        found = (cast("dict[str, Any]", named) if isinstance(named, dict) else fields).get("checkpoint_id")
    if found is not None and not isinstance(found, str):
        raise RefusedError(422, "before: the id of a checkpoint is a text")
    return found or None


def _own_metadata(metadata: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a filter of checkpoints; the id of a run has another key in them."""
    if metadata is None or "run_id" not in metadata:
        return metadata
    rest = {name: each for name, each in metadata.items() if name != "run_id"}
    return {**rest, "lg_streaming_run_id": metadata["run_id"]}
