"""Streams of one message: for the routes of this dialect, and for a route of the application."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from lg_streaming.errors import BadPositionError
from lg_streaming.events import Position
from lg_streaming.gateway.dialects.ai_sdk.chunks import members, text_of
from lg_streaming.gateway.dialects.ai_sdk.encoder import METADATA_KEY, Form, UiMessageStream
from lg_streaming.gateway.http.event_stream import StreamOptions, open_stream
from lg_streaming.gateway.protocol.responses import error_response
from lg_streaming.globs import Globs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.errors import StreamingError
    from lg_streaming.gateway.http.context import HttpContext
    from lg_streaming.gateway.protocol.inbound import SubscribeExecution
    from lg_streaming.gateway.session.session import Session
    from lg_streaming.hub import StreamHub
    from lg_streaming.log.base import LogState
    from lg_streaming.settings import WireSettings

__all__ = [
    "HEADERS",
    "MessageStart",
    "describe_error",
    "form_of",
    "message_start",
    "nothing_to_resume",
    "open_message",
    "primed",
]

HEADERS: Final = {"x-vercel-ai-ui-message-stream": "v1", "Cache-Control": "no-cache, no-transform"}
"""Headers of each stream."""
_PAGE: Final = 500


def describe_error(error: StreamingError) -> Response:
    """Return an error as a text, which the clients show to people."""
    response = error_response(error)
    response.body = error.message.encode()
    response.headers["Content-Length"] = str(len(response.body))
    response.headers["Content-Type"] = "text/plain; charset=utf-8"
    if response.status_code < 400:  # noqa: PLR2004 (a text with 200 would be an empty answer)
        response.status_code = 500
    return response


def nothing_to_resume() -> Response:
    """Return the answer to a page that has nothing to resume: the client stays ready, and shows no error."""
    return Response(status_code=204, headers={"Cache-Control": "no-store"})


def form_of(settings: WireSettings) -> Form:
    """Return the chunks that streams may have."""
    return Form(clients=settings.ai_sdk_clients, data=Globs(settings.ai_sdk_data))


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageStart:
    """Beginning of the message that the last run of an execution writes."""

    run_id: str | None = None
    message_id: str | None = None
    """Id of the message, if the run continues that of an earlier one."""
    after: Position | None = None
    """Position before the message's first update; None for the beginning of the execution."""


def message_start(state: LogState) -> MessageStart:
    """Return where the message of the last run begins: at this run, or at an earlier one whose message it continues."""
    record = state.start_record
    if record is None:
        return MessageStart()
    continued = members(state.metadata.get(METADATA_KEY))
    known = text_of(continued.get("after"))
    after = Position(record.epoch, record.seq - 1)
    if known is not None:
        try:
            earlier = Position.parse(known)
        except BadPositionError:
            earlier = None
        if earlier is not None and state.has(earlier):
            after = earlier
    return MessageStart(
        run_id=record.scope.run_id,
        message_id=text_of(continued.get("message_id")),
        after=after,
    )


async def primed(
    hub: StreamHub, execution_id: str, form: Form, start: MessageStart, *, until: Position
) -> UiMessageStream:
    """Return an encoder that has read the message up to a position, for a client that has that part of it.

    Raises:
        LogUnavailableError: If the log cannot be reached.
    """
    encoder = UiMessageStream(form, message_id=start.message_id, run_id=start.run_id)
    seq = start.after.seq if start.after is not None else 0
    while seq < until.seq:
        found = await hub.log.read(execution_id, seq, min(_PAGE, until.seq - seq))
        if found is None or not found.records:
            break
        encoder.prime(execution_id, [each for each in found.records if each.seq <= until.seq])
        seq = found.records[-1].seq
    return encoder


async def open_message(
    context: HttpContext,
    session: Session,
    query: SubscribeExecution,
    *,
    encoder: UiMessageStream | None = None,
    start: MessageStart,
    form: Form,
    replay: bool = False,
    max_duration: float | None,
    headers: Mapping[str, str],
    head_only: bool = False,
) -> Response:
    """Return the stream of a message to an admitted reader.

    Args:
        context: Services of the routes.
        session: The reader.
        query: The execution, and the position after which updates are sent.
        encoder: The encoder, if it has read the beginning of the message.
        start: The beginning of the message.
        form: Chunks that the stream may have.
        replay: True for a client that resumes: what it has of the message comes again, as little as needed.
        max_duration: Seconds after which the connection is cut; None: no limit.
        headers: Additional headers.
        head_only: True for the headers alone.

    Raises:
        StreamingError: If `open_stream` raises it.
    """
    options = StreamOptions(
        encoder=lambda _, subscription: (
            encoder
            or UiMessageStream(
                form,
                message_id=start.message_id,
                run_id=start.run_id,
                replay_until=subscription.options.live_after if replay else 0,
            )
        ),
        max_duration=max_duration,
        headers={**HEADERS, **headers},
    )
    return await open_stream(context, session, query, options, head_only=head_only)
