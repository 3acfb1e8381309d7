"""The response of an application's own route: the message that an execution writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import Response

from lg_streaming.errors import StreamingError
from lg_streaming.events import Position
from lg_streaming.gateway.auth.peer import Peer
from lg_streaming.gateway.dialects.ai_sdk.streams import (
    MessageStart,
    describe_error,
    message_start,
    nothing_to_resume,
    open_message,
    primed,
)
from lg_streaming.gateway.protocol.responses import isolate
from lg_streaming.gateway.session.session import Session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Receive, Scope, Send

    from lg_streaming.gateway.dialects.ai_sdk.encoder import Form
    from lg_streaming.gateway.http.context import HttpContext
    from lg_streaming.gateway.protocol.inbound import SubscribeExecution

__all__ = ["MessageResponse"]


class MessageResponse(Response):
    """Response that opens the stream of a message when it is sent, as it has no request before.

    Args:
        context: Services of the HTTP routes.
        query: The execution, and the position after which the message is sent.
        form: Chunks that the stream may have.
        resume: True for the message of the open run from its beginning, and 204 without one.
        max_duration: Seconds after which the connection is cut; None: no limit.
        heartbeat_interval: Seconds between comments on an idle stream; None: the settings'.
        headers: Additional headers.
    """

    def __init__(
        self,
        context: HttpContext,
        query: SubscribeExecution,
        *,
        form: Form,
        resume: bool,
        max_duration: float | None,
        heartbeat_interval: float | None,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(media_type="text/event-stream")
        self._context = context
        self._query = query
        self._form = form
        self._resume = resume
        self._max_duration = max_duration
        self._heartbeat_interval = heartbeat_interval
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Open the stream for the request, and serve it."""
        self._context.gateway.lifecycle.wake()
        session = Session(
            peer=Peer.from_scope(scope),
            context=self._context.gateway,
            transport="ai-sdk",
            heartbeat_interval=self._heartbeat_interval,
            trusted=True,
        )
        try:
            await session.login()
            response = await self._open(session, head_only=scope.get("method") == "HEAD")
        except StreamingError as error:
            session.close()
            response = describe_error(error)
            response.headers.update(self._headers)
        except BaseException:
            session.close()
            raise
        isolate(response)
        self._context.compression.apply(Headers(scope=scope), response)
        await response(scope, receive, send)

    async def _open(self, session: Session, *, head_only: bool) -> Response:
        query, execution_id = self._query, self._query.execution_id
        state = await session.find(execution_id, latest=self._resume)
        if self._resume and (state is None or state.state != "running"):
            session.close()
            return nothing_to_resume()
        known = MessageStart() if state is None else message_start(state)
        start, encoder = known if self._resume else MessageStart(), None
        after = known.after if self._resume else None if query.after is None else Position.parse(query.after)
        begun = 0 if known.after is None else known.after.seq
        if state is not None and not self._resume and after is not None and state.has(after) and after.seq > begun:
            start = known  # the client has the beginning of the message
            encoder = await primed(session.hub, execution_id, self._form, start, until=after)
            encoder.go_on(None, {each: {} for each in encoder.questions})
        return await open_message(
            self._context,
            session,
            query.model_copy(update={"after": None if after is None else str(after)}),
            encoder=encoder,
            start=start,
            form=self._form,
            replay=self._resume,
            max_duration=self._max_duration,
            headers=self._headers,
            head_only=head_only,
        )
