"""Executions as responses of an application's own routes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.responses import Response
from typing_extensions import Unpack

from lg_streaming.checks import seconds
from lg_streaming.errors import BadRequestError
from lg_streaming.events import Position
from lg_streaming.filters import FilterOptions, filter_payload
from lg_streaming.gateway.dialects import ENCODERS
from lg_streaming.gateway.http.context import HttpContext
from lg_streaming.gateway.http.event_stream import InitialData, StreamOptions
from lg_streaming.gateway.http.lazy_stream import LazyStream
from lg_streaming.gateway.protocol.http_models import StreamQuery
from lg_streaming.gateway.protocol.inbound import SubscribeExecution
from lg_streaming.gateway.protocol.registry import parse

if TYPE_CHECKING:
    from lg_streaming.gateway.protocol.inbound import DialectName, EventName
    from lg_streaming.hub import StreamHub
    from lg_streaming.hub.page import OnGap

__all__ = ["ai_sdk_response", "sse_response"]


def sse_response(
    hub: StreamHub,
    execution_id: str,
    *,
    after: Position | str | None = None,
    batch: bool = False,
    follow: bool = False,
    merge: bool = False,
    on_gap: OnGap = "oldest",
    named: bool = True,
    event: EventName | None = None,
    ids: bool = True,
    dialect: DialectName | None = None,
    initial_data: InitialData | None = None,
    max_duration: float | None = None,
    heartbeat_interval: float | None = None,
    headers: Mapping[str, str] | None = None,
    **filters: Unpack[FilterOptions],
) -> Response:
    """Return an execution as the event-stream response of your own route.

    ```python
    @app.get("/chats/{chat_id}/stream")
    async def watch(chat_id: str, user: CurrentUser) -> Response:
        return sse_response(streaming.hub, chat_id)
    ```

    Your route decides who may read; this function checks no token. The reader's `Last-Event-ID` wins over `after`; a
    parameter of the address (`?lastEventId=…`) counts as that header. If the execution cannot be read, the response
    has the error's HTTP status.

    Args:
        hub: The hub of the execution.
        execution_id: The execution to read; it need not have started.
        after: Position after which updates are sent; `"latest"` for new updates only; None for all.
        batch: Whether updates come as lists, in `updates` events.
        follow: Whether the stream stays after a run's final update.
        merge: Whether token deltas and progress may be merged while the reader lags.
        on_gap: What to do when updates after `after` are gone.
        named: Whether updates have an `event:` line; else a browser's `onmessage` fires.
        event: Content of the `event:` line: an update's `"type"`, such as `node_start`, or its `"kind"`, as on
            Socket.IO and `/ws`. The default is `"type"`.
        ids: Whether events have ids, from which a reader resumes.
        dialect: `"flowise"` for Flowise's clients. Such a stream has no names, ids or batches, so `batch` is refused.
        initial_data: `initial_data(execution_id)`, sync or async, returns the data of the first event, `initial`. The
            reader's position is fixed before the call, so updates published during the call follow the event.
        max_duration: Seconds after which the stream ends and asks the reader to reconnect; default: the settings'.
        heartbeat_interval: Seconds between comments on an idle stream; default: the settings'.
        headers: Additional headers of the response.
        filters: The updates to send; see `FilterOptions`. `until="interrupted"` ends the stream when the run waits
            for a human.

    Raises:
        BadRequestError: If the id or an option cannot be used.
    """
    seconds(none="for the settings'").check("max_duration", max_duration, BadRequestError)
    seconds(none="for the settings'").check("heartbeat_interval", heartbeat_interval, BadRequestError)
    payload: dict[str, object] = {
        "execution_id": execution_id,
        "after": str(after) if after is not None else None,
        "batch": batch,
        "follow": follow,
        "merge": merge,
        "on_gap": on_gap,
        "dialect": dialect,
        "event": event,
        **({} if named else {"named": False}),
        **filter_payload(filters),
    }
    context = HttpContext.for_hub(hub)
    request = parse(StreamQuery, {name: value for name, value in payload.items() if value is not None})
    return LazyStream(
        context,
        request,
        StreamOptions(
            event=request.event_line,
            ids=ids,
            encoder=None if dialect is None else ENCODERS[dialect],
            keep_alive_header=dialect is not None,
            max_duration=context.gateway.settings.gateway.max_stream_duration if max_duration is None else max_duration,
            initial_data=initial_data,
            headers=dict(headers or {}),
        ),
        heartbeat_interval=heartbeat_interval,
    )


def ai_sdk_response(
    hub: StreamHub,
    execution_id: str,
    *,
    after: Position | str | None = None,
    resume: bool = False,
    max_duration: float | None = None,
    heartbeat_interval: float | None = None,
    headers: Mapping[str, str] | None = None,
    **filters: Unpack[FilterOptions],
) -> Response:
    """Return the message of an execution's run for `useChat` of the AI SDK, as the response of your own route.

    ```python
    @app.get("/chat/{chat_id}/stream")
    async def resume(chat_id: str, user: CurrentUser) -> Response:
        return ai_sdk_response(streaming.hub, chat_id, resume=True)
    ```

    Your route decides who may read; this function checks no token. The stream ends with the run, or when it waits for
    a human. If the execution cannot be read, the response has the error's HTTP status, and its message as the body.

    Args:
        hub: The hub of the execution.
        execution_id: The execution to read; it need not have started.
        after: Position before the run's first update, as `GraphRun.after`; None for the beginning of the execution. A
            position within the run, at which it waited for an answer, continues the message that the client has.
        resume: Whether the client has lost the message: it gets that of the running run from its beginning, and 204
            if none is running. Not with `after`.
        max_duration: Seconds after which the connection is cut; default: the settings'.
        heartbeat_interval: Seconds between comments on an idle stream; default: the settings'.
        headers: Additional headers of the response.
        filters: The updates to send; see `FilterOptions`. The types about nodes, tools and runs have to pass.

    Raises:
        BadRequestError: If the id or an option cannot be used.
    """
    from lg_streaming.gateway.dialects.ai_sdk import MessageResponse, form_of  # noqa: PLC0415 (one wire of several)

    seconds(none="for the settings'").check("max_duration", max_duration, BadRequestError)
    seconds(none="for the settings'").check("heartbeat_interval", heartbeat_interval, BadRequestError)
    if resume and after is not None:
        raise BadRequestError("resume begins at the beginning of the message: leave after out")
    known = after if after is None or isinstance(after, Position) else Position.parse(after)
    context = HttpContext.for_hub(hub)
    payload = {"execution_id": execution_id, "after": None if known is None else str(known), **filter_payload(filters)}
    return MessageResponse(
        context,
        parse(SubscribeExecution, {name: value for name, value in payload.items() if value is not None}),
        form=form_of(hub.settings.wires),
        resume=resume,
        max_duration=context.gateway.settings.gateway.max_stream_duration if max_duration is None else max_duration,
        heartbeat_interval=heartbeat_interval,
        headers=dict(headers or {}),
    )
