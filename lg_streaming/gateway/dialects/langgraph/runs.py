"""Routes of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import orjson
from starlette.responses import Response

from lg_streaming.errors import StreamingError
from lg_streaming.gateway.dialects.langgraph.bodies import MODES, CancelRuns, RunBody, parse_body
from lg_streaming.gateway.dialects.langgraph.encoder import RunEncoder
from lg_streaming.gateway.dialects.langgraph.final import FinalValues
from lg_streaming.gateway.dialects.langgraph.reader import with_interrupts
from lg_streaming.gateway.dialects.langgraph.refusals import RefusedError, no_run
from lg_streaming.gateway.dialects.langgraph.shapes import interrupts_of
from lg_streaming.gateway.dialects.langgraph.thread_stream import THREAD_MODES, ThreadEncoder
from lg_streaming.gateway.dialects.langgraph.view import Place, RunView
from lg_streaming.gateway.http.event_stream import StreamOptions, open_stream
from lg_streaming.gateway.protocol.inbound import SubscribeExecution
from lg_streaming.gateway.protocol.responses import json_response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from lg_streaming.gateway.auth.peer import Peer
    from lg_streaming.gateway.dialects.langgraph.records import RunRecord
    from lg_streaming.gateway.dialects.langgraph.segments import Segment
    from lg_streaming.gateway.dialects.langgraph.services import Services
    from lg_streaming.gateway.dialects.langgraph.starting import StartedRun
    from lg_streaming.gateway.dialects.langgraph.threads import ThreadView
    from lg_streaming.gateway.dialects.wire import Wire
    from lg_streaming.gateway.http.context import HttpContext
    from lg_streaming.gateway.http.stream_encoder import EventStreamEncoder, MakeEncoder
    from lg_streaming.gateway.session.session import Session
    from lg_streaming.gateway.session.subscriptions import ActiveSubscription
    from lg_streaming.log.base import StoredUpdate

__all__ = ["RunRoutes", "flag", "number_in"]

_TRUE: Final = frozenset({"1", "true"})
_FALSE: Final = frozenset({"", "0", "false"})
_STREAM: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_JSON: Final = {"Content-Type": "application/json", "Cache-Control": "no-store"}
_DEFAULT_LIMIT: Final = 10
_MOST: Final = 1_000
_MOST_DIGITS: Final = 18


class RunRoutes:
    """Routes of runs, with a thread and without one.

    Args:
        wire: The wire, which admits callers and reads bodies.
        context: Services that all HTTP routes share.
        services: What the routes of the wire share.
    """

    def __init__(self, wire: Wire, context: HttpContext, services: Services) -> None:
        self._wire = wire
        self._context = context
        self._services = services

    # --- start ----------------------------------------------------------------------------------------------

    async def stream(self, request: Request, peer: Peer) -> Response:
        """Start a run, and stream it."""
        return await self._with_session(peer, lambda session: self._stream_new(request, session))

    async def _stream_new(self, request: Request, session: Session) -> Response:
        body = parse_body(RunBody, await self._wire.body(request))
        started = await self._services.starter.start(session, body, _thread(request))
        record = started.record
        headers = _places(record, "stream", with_thread="thread_id" in request.path_params)
        if started.waiting:
            session.close()
            return _ended_stream(started, frozenset(body.stream_mode), headers)
        view = _view(record, frozenset(body.stream_mode))
        return await self._open(session, record, view, headers, leaves=body.on_disconnect == "cancel")

    async def wait(self, request: Request, peer: Peer) -> Response:
        """Start a run, and answer with the values at its end."""
        return await self._with_session(peer, lambda session: self._wait_for_new(request, session))

    async def _wait_for_new(self, request: Request, session: Session) -> Response:
        body = parse_body(RunBody, await self._wire.body(request))
        started = await self._services.starter.start(session, body, _thread(request))
        record = started.record
        headers = _places(record, "join", with_thread="thread_id" in request.path_params)
        if started.waiting:
            session.close()
            return Response(with_interrupts(None, _rest(started)), headers={**headers, **_JSON})
        return await self._open_final(session, record, headers, leaves=body.on_disconnect == "cancel")

    async def create(self, request: Request, peer: Peer) -> Response:
        """Start a run in the background."""
        session = await self._wire.enter(peer)
        body = parse_body(RunBody, await self._wire.body(request))
        started = await self._services.starter.start(session, body, _thread(request))
        record = started.record
        status = "interrupted" if started.waiting else "pending" if record.queued else "running"
        response = json_response(record.to_json(status))
        response.headers.update(_places(record, "stream", with_thread="thread_id" in request.path_params))
        return response

    # --- read -----------------------------------------------------------------------------------------------

    async def get(self, request: Request, peer: Peer) -> Response:
        """Return a run."""
        session = await self._wire.enter(peer)
        view, record = await self._find(session, request)
        return json_response(_described(view, record))

    async def list(self, request: Request, peer: Peer) -> Response:
        """Return the runs of a thread, newest first."""
        session = await self._wire.enter(peer)
        view = await self._services.threads.find(session, request.path_params["thread_id"])
        found, query = await self._services.lookup.runs_of(view), request.query_params
        if asked := query.get("status"):
            found = [each for each in found if each.status_in(view.table, view.state) == asked]
        offset = number_in(query.get("offset"), 0)
        limit = min(number_in(query.get("limit"), _DEFAULT_LIMIT), _MOST)
        chosen = _texts(request, "select")
        page = [_described(view, each) for each in found[offset : offset + limit]]
        return json_response(
            [{name: each[name] for name in chosen if name in each} if chosen else each for each in page]
        )

    async def join_stream(self, request: Request, peer: Peer) -> Response:
        """Stream a run that exists."""
        return await self._with_session(peer, lambda session: self._join_stream(request, session))

    async def _join_stream(self, request: Request, session: Session) -> Response:
        view, record = await self._find(session, request)
        named = _texts(request, "stream_mode")
        if unknown := [each for each in named if each not in MODES]:
            raise RefusedError(422, f"stream_mode: {unknown[0]:.80} is no mode")
        modes = frozenset(named) if named else frozenset(record.modes)
        headers = _places(record, "stream", with_thread="thread_id" in request.path_params)
        place = self._place(request, view)
        segment = view.table.find(record.run_id) if view.table is not None else None
        if _is_over(view, record, segment, place):
            session.close()
            return _empty_stream(headers)
        shown = _view(record, modes, after=place)
        return await self._open(session, record, shown, headers, leaves=flag(request, "cancel_on_disconnect"))

    def _place(self, request: Request, view: ThreadView) -> Place | None:
        """Return the place after which a reader gets frames; None for all of the run."""
        named = request.headers.get("last-event-id", request.query_params.get("last_event_id", ""))
        state = view.state
        if state is None:
            return None
        if not named:
            return Place(state.epoch, state.head)
        place = Place.parse(named)
        known = place is not None and place.epoch == state.epoch and place.seq <= state.head
        return place if known else None

    async def thread_stream(self, request: Request, peer: Peer) -> Response:
        """Stream all runs of a thread. The stream has no end."""
        return await self._with_session(peer, lambda session: self._thread_stream(request, session))

    async def _thread_stream(self, request: Request, session: Session) -> Response:
        services, thread_id = self._services, request.path_params["thread_id"]
        view = await services.threads.find(session, thread_id)
        named = _texts(request, "stream_mode")
        if unknown := [each for each in named if each not in THREAD_MODES]:
            raise RefusedError(422, f"stream_mode: {unknown[0]:.80} is no mode of a thread")
        state = view.state
        place = self._place(request, view)
        begin = 0 if place is None or state is None else place.seq
        for each in view.table.segments if view.table is not None else ():
            if each.end is None or each.end > begin:  # a run is read from its start
                begin = min(begin, each.begin)

        async def find(record: StoredUpdate) -> RunEncoder | None:
            fresh = await services.threads.look(session, thread_id)
            table = fresh.table if fresh is not None else None
            segment = table.at(record.seq) if table is not None else None
            if fresh is None or segment is None:
                return None
            run = await services.lookup.run_of(fresh, segment.run_id)
            run.begin, run.epoch = segment.begin, record.epoch
            return RunEncoder(_view(run, frozenset(run.modes), after=place), services.loader(thread_id, run.graph))

        def make(_: Session, _subscription: ActiveSubscription) -> EventStreamEncoder:
            return ThreadEncoder(frozenset(named or ["run_modes"]), find, after=-1 if place is None else place.seq)

        after = None if state is None or not begin else f"{state.epoch}:{begin}"
        query = SubscribeExecution(execution_id=thread_id, after=after, follow=True, on_gap="oldest")
        options = StreamOptions(
            encoder=make,
            headers=dict(_STREAM),
            max_duration=session.context.settings.gateway.max_stream_duration,
        )
        return await open_stream(self._context, session, query, options)

    async def join(self, request: Request, peer: Peer) -> Response:
        """Answer with the values at the end of a run."""
        return await self._with_session(peer, lambda session: self._join(request, session))

    async def _join(self, request: Request, session: Session) -> Response:
        view, record = await self._find(session, request)
        status = record.status_in(view.table, view.state)
        in_log = view.table is not None and view.table.find(record.run_id) is not None
        if not in_log and (record.partial or status not in {"pending", "running"}):
            session.close()
            snapshot = await self._services.threads.snapshot(view)
            return json_response(None if snapshot is None else snapshot["values"])
        headers = _places(record, "join", with_thread="thread_id" in request.path_params)
        leaves = flag(request, "cancel_on_disconnect")
        return await self._open_final(session, record, headers, leaves=leaves)

    # --- end ------------------------------------------------------------------------------------------------

    async def cancel(self, request: Request, peer: Peer) -> Response:
        """Cancel a run."""
        session = await self._wire.enter(peer)
        view, record = await self._find(session, request)
        wait, reason = flag(request, "wait"), request.query_params.get("reason")
        await self._services.starter.cancel(
            session, view, record.run_id, rollback=_rolls_back(request), wait=wait, reason=reason
        )
        return json_response({}) if wait else Response(status_code=202)

    async def cancel_many(self, request: Request, peer: Peer) -> Response:
        """Cancel runs of a thread, by id or by status."""
        session = await self._wire.enter(peer)
        body = parse_body(CancelRuns, await self._wire.body(request))
        rollback, thread_id, run_ids, status = _rolls_back(request), body.thread_id, body.run_ids, body.status
        if thread_id is None:
            raise RefusedError(422, "thread_id: name the thread of the runs")
        view = await self._services.threads.find(session, thread_id)
        active = {"pending", "running"} if status in {None, "all"} else {status}
        for record in await self._services.lookup.runs_of(view):
            if run_ids is not None and record.run_id not in run_ids:
                continue
            if record.status_in(view.table, view.state) in active & {"pending", "running"}:
                await self._services.starter.cancel(session, view, record.run_id, rollback=rollback)
        return Response(status_code=204)

    async def delete(self, request: Request, peer: Peer) -> Response:
        """Delete the record of a run, which is cancelled before if it is active."""
        session = await self._wire.enter(peer)
        view, record = await self._find(session, request)
        try:
            await self._services.starter.cancel(session, view, record.run_id, wait=True)
        except RefusedError as error:
            if error.detail.startswith("Thread"):
                raise
        record.status = "deleted"
        await self._services.records.put(record)
        return Response(status_code=204)

    # --- streams --------------------------------------------------------------------------------------------

    async def _with_session(self, peer: Peer, serve: Callable[[Session], Awaitable[Response]]) -> Response:
        session = await self._wire.open_session(peer)
        try:
            return await serve(session)
        except BaseException as error:
            if isinstance(error, StreamingError):
                session.instrumentation.refused(error)
            session.close()
            raise

    async def _find(self, session: Session, request: Request) -> tuple[ThreadView, RunRecord]:
        services, run_id = self._services, request.path_params["run_id"]
        thread_id = request.path_params.get("thread_id")
        stateless = thread_id is None
        if thread_id is None:
            thread_id = await services.records.thread_of(run_id)
        view = None if thread_id is None else await services.threads.look(session, thread_id, deleted=stateless)
        if view is None or thread_id is None:
            raise no_run(run_id)
        return view, await services.lookup.run_of(view, run_id)

    async def _open(
        self, session: Session, record: RunRecord, view: RunView, headers: dict[str, str], *, leaves: bool
    ) -> Response:
        load = self._services.loader(record.thread_id, record.graph)
        return await self._reader(
            session, record, lambda: RunEncoder(view, load), {**headers, **_STREAM}, leaves=leaves
        )

    async def _open_final(
        self, session: Session, record: RunRecord, headers: dict[str, str], *, leaves: bool
    ) -> Response:
        load, view = self._services.loader(record.thread_id, record.graph), _view(record, frozenset())
        return await self._reader(session, record, lambda: FinalValues(view, load), {**headers, **_JSON}, leaves=leaves)

    async def _reader(
        self,
        session: Session,
        record: RunRecord,
        make: Callable[[], EventStreamEncoder],
        headers: dict[str, str],
        *,
        leaves: bool,
    ) -> Response:
        services = self._services

        def encoder(_: Session, subscription: ActiveSubscription) -> EventStreamEncoder:
            if record.queued:
                services.pending.add(record.run_id, subscription)
            return make()

        async def leave() -> None:
            await services.starter.stop_if_active(record, "disconnected")

        after = f"{record.epoch}:{record.begin}" if record.begin and record.epoch else None
        query = SubscribeExecution(execution_id=record.thread_id, after=after, follow=True, on_gap="oldest")
        made: MakeEncoder = encoder
        options = StreamOptions(
            encoder=made,
            headers=headers,
            max_duration=session.context.settings.gateway.max_stream_duration,
            on_leave=leave if leaves else None,
        )
        return await open_stream(self._context, session, query, options)


def flag(request: Request, name: str) -> bool:
    """Return whether a parameter of the query is true.

    Raises:
        RefusedError: If it is neither true nor false.
    """
    text = request.query_params.get(name, "").lower()
    if text not in {*_TRUE, *_FALSE}:
        raise RefusedError(422, f"{name}: true or false, not {text:.40}")
    return text in _TRUE


def _texts(request: Request, name: str) -> list[str]:
    """Return a parameter of the query that may be repeated.

    One value may hold several, with commas between them, or as the JSON list that clients before 1.15 send.
    """
    parts = (part for value in request.query_params.getlist(name) for part in value.strip("[]").split(","))
    return [text for part in parts if (text := part.strip(' "'))]


def _rolls_back(request: Request) -> bool:
    action = request.query_params.get("action") or "interrupt"
    if action not in {"interrupt", "rollback"}:
        raise RefusedError(422, f"action: interrupt or rollback, not {action:.40}")
    return action == "rollback"


def _thread(request: Request) -> str | None:
    return request.path_params.get("thread_id")


def _is_over(view: ThreadView, record: RunRecord, segment: Segment | None, place: Place | None) -> bool:
    """Return whether a reader has all frames of a run, or the log has none of them."""
    if view.state is None:
        return True
    if segment is None:
        return record.partial or record.status_in(view.table, view.state) not in {"pending", "running"}
    return segment.end is not None and place is not None and place.part is None and place.seq >= segment.end


def _view(record: RunRecord, modes: frozenset[str], *, after: Place | None = None) -> RunView:
    return RunView(
        thread_id=record.thread_id,
        run_id=record.run_id,
        own_run=record.own_run,
        begin=record.begin,
        epoch=record.epoch,
        resumed=record.resumed,
        modes=modes,
        subgraphs=record.subgraphs,
        after=after,
    )


def _places(record: RunRecord, last: str, *, with_thread: bool) -> dict[str, str]:
    thread = f"/threads/{quote(record.thread_id, safe='')}" if with_thread else ""
    path = f"{thread}/runs/{record.run_id}"
    return {"Location": f"{path}/{last}", "Content-Location": path}


def _described(view: ThreadView, record: RunRecord) -> dict[str, Any]:
    segment = view.table.find(record.run_id) if view.table is not None else None
    status = record.status_in(view.table, view.state)
    return record.to_json(status, None if segment is None else segment.updated_at)


def _rest(started: StartedRun) -> list[dict[str, Any]]:
    return interrupts_of({"interrupts": [{**each, "id": each["prompt_id"]} for each in started.waiting]})


def _ended_stream(started: StartedRun, modes: frozenset[str], headers: dict[str, str]) -> Response:
    """Return the stream of a run that has answered some of several interrupts, and so waits again at once."""
    rest = _rest(started)
    name = "updates" if modes & {"updates"} and not modes & {"values"} else "values"
    frames = b"event: metadata\ndata: %b\n\nevent: %b\ndata: %b\n\n" % (
        orjson.dumps({"run_id": started.record.run_id, "attempt": 1}),
        name.encode(),
        with_interrupts(None, rest),
    )
    return Response(frames, headers={**headers, **_STREAM}, media_type="text/event-stream")


def _empty_stream(headers: dict[str, str]) -> Response:
    return Response(b"", headers={**headers, **_STREAM}, media_type="text/event-stream")


def number_in(text: str | None, default: int) -> int:
    """Return a whole number of the query; the default for another text, or none."""
    return int(text[:_MOST_DIGITS]) if text is not None and text.isascii() and text.isdigit() else default
