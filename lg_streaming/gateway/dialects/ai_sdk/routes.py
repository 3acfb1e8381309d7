"""Routes of the AI SDK: `POST /api/chat` and `GET /api/chat/{id}/stream`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import quote

from starlette.routing import Route

from lg_streaming.errors import BadRequestError, ForbiddenError, PromptError, StreamingError
from lg_streaming.events import Position, check_execution_id
from lg_streaming.gateway.dialects.ai_sdk.answers import responses_of, tool_messages
from lg_streaming.gateway.dialects.ai_sdk.chunks import members, text_of
from lg_streaming.gateway.dialects.ai_sdk.encoder import METADATA_KEY
from lg_streaming.gateway.dialects.ai_sdk.request import ChatRequest, read_request, to_input
from lg_streaming.gateway.dialects.ai_sdk.streams import (
    HEADERS,
    MessageStart,
    describe_error,
    form_of,
    message_start,
    nothing_to_resume,
    open_message,
    primed,
)
from lg_streaming.gateway.dialects.wire import Wire, results_of_stopped
from lg_streaming.gateway.http.endpoint import Endpoint
from lg_streaming.gateway.protocol.inbound import SubscribeExecution
from lg_streaming.gateway.protocol.registry import parse
from lg_streaming.gateway.session.starting import start_graph
from lg_streaming.runs import RemoteStart

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from lg_streaming.gateway.auth.peer import Peer
    from lg_streaming.gateway.http.context import HttpContext
    from lg_streaming.gateway.session.session import Session
    from lg_streaming.log.base import LogState
    from lg_streaming.types import WireName

__all__ = ["AiSdk"]

_RESUMABLE: Final = "x-resumable-stream-id"
_EXPOSED: Final = (_RESUMABLE, *(name for name in HEADERS if name.startswith("x-")))


class AiSdk(Wire):
    """Routes for `useChat` of the AI SDK, and for assistant-ui.

    Args:
        context: Services that the routes share.
    """

    name: ClassVar[WireName] = "ai-sdk"

    def __init__(self, context: HttpContext) -> None:
        super().__init__(context)
        self._path = self._settings.ai_sdk_path
        self._form = form_of(self._settings)
        self._max_duration = context.gateway.settings.gateway.max_stream_duration

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Wire.paths`."""
        return (self._path,)

    def routes(self) -> list[BaseRoute]:
        """See `Wire.routes`."""
        return [
            Route(self._path, self._endpoint(POST=self._post)),
            # a greedy path: old clients do not encode the id, which may hold a slash
            Route(f"{self._path}/{{chat_id:lg_execution_id}}/stream", self._endpoint(GET=self._resume)),
        ]

    def _endpoint(self, **methods: Any) -> Endpoint:
        return Endpoint(self._context, describe_error=describe_error, expose=_EXPOSED, **methods)

    # ------------------------------------------------------------ turns
    async def _post(self, request: Request, peer: Peer) -> Response:
        """Start a run with the user's message, or answer the run that waits; send its message."""
        session = await self.open_session(peer)
        try:
            chat = read_request(await self.body(request))
            if chat.chat_id is not None:
                check_execution_id(chat.chat_id)
            if chat.kind == "answers":
                return await self._answer(session, chat)
            return await self._ask(session, chat)
        except BaseException as error:
            if isinstance(error, StreamingError):
                session.instrumentation.refused(error)
            session.close()
            raise

    async def _ask(self, session: Session, chat: ChatRequest) -> Response:
        graph, last = self.graph_name(chat.graph), chat.messages[-1]
        checkpoint_id, messages = None, to_input(last)
        if not self._keeps(graph):
            messages = [each for one in chat.messages for each in to_input(one)]
        elif chat.chat_id is not None:
            checkpoint_id = await self._checkpoint(graph, chat.chat_id, chat.message_id)
            if checkpoint_id is None:
                messages = [*results_of_stopped(await self._calls(graph, chat.chat_id)), *messages]
        return await self._run(session, chat, graph, messages, checkpoint_id=checkpoint_id)

    async def _run(
        self,
        session: Session,
        chat: ChatRequest,
        graph: str,
        messages: list[dict[str, Any]],
        *,
        checkpoint_id: str | None = None,
        start: MessageStart | None = None,
    ) -> Response:
        """Start a run, and send its message.

        Args:
            session: The caller.
            chat: The request.
            graph: The graph.
            messages: Its input.
            checkpoint_id: The checkpoint at which it begins.
            start: The beginning of the message, if the run continues that of an earlier one.
        """
        state = None if chat.chat_id is None else await session.hub.describe(chat.chat_id, latest=True)
        continued: dict[str, Any] = {}
        if start is not None:
            continued = {"message_id": chat.message_id, "after": None if start.after is None else str(start.after)}
        run = await start_graph(
            session,
            RemoteStart(
                graph=graph,
                input={"messages": messages},
                execution_id=chat.chat_id,
                context=chat.context,
                metadata={METADATA_KEY: continued} if continued else None,
                # a question to a run that waits for a person replaces the run
                if_running="cancel" if state is not None and state.state == "interrupted" else "reject",
                checkpoint_id=checkpoint_id,
            ),
        )
        encoder = None
        if start is not None and run.after is not None:
            encoder = await primed(session.hub, run.execution_id, self._form, start, until=run.after)
            encoder.go_on(chat.message_id, {}, keeps_calls=chat.message_id is not None)
        here = MessageStart(run_id=run.run_id, after=run.after)
        return await self._open(session, run.execution_id, here, encoder=encoder)

    def _keeps(self, graph: str) -> bool:
        """Return whether a graph keeps its threads: else it gets the whole conversation each time."""
        runner = self._context.gateway.remote_runner
        return runner is not None and graph in runner.graphs and runner.threads.keeps(graph)

    async def _checkpoint(self, graph: str, thread_id: str, message_id: str | None) -> str | None:
        """Return the checkpoint before a message of the thread; None for a message that is new."""
        runner = self._context.gateway.remote_runner
        if runner is None or message_id is None or message_id not in await runner.threads.message_ids(graph, thread_id):
            return None
        return await runner.threads.checkpoint_before(graph, thread_id, message_id)

    async def _calls(self, graph: str, thread_id: str) -> list[str]:
        runner = self._context.gateway.remote_runner
        return [] if runner is None or not self._keeps(graph) else await runner.threads.open_calls(graph, thread_id)

    async def _open_calls(self, chat_id: str, state: LogState) -> list[str]:
        """Return the calls without a result in the thread of an execution's run."""
        data = None if state.start_record is None else members(state.start_record.update.data)
        name = text_of((data or {}).get("name"))
        return [] if name is None else await self._calls(name, chat_id)

    # ------------------------------------------------------------ answers
    async def _answer(self, session: Session, chat: ChatRequest) -> Response:
        """Answer the prompts of the run that waits, and send the rest of its message."""
        chat_id = chat.chat_id
        if chat_id is None:
            raise BadRequestError("an answer needs the id of its chat")
        state = await session.check("control", chat_id)
        start = MessageStart() if state is None else message_start(state)
        if state is None or state.state != "interrupted":
            return await self._send_results(session, chat, start)
        until = Position(state.epoch, state.head)
        encoder = await primed(session.hub, chat_id, self._form, start, until=until)
        questions = list(encoder.questions.values())
        responses, shown = responses_of(questions, chat.answers)
        if not responses:  # after a restart the log may not have the calls that ask
            responses, shown = responses_of(questions, chat.answers, await self._open_calls(chat_id, state))
        if not responses:
            raise PromptError(execution_id=chat_id)
        for prompt_id, response in responses.items():
            await session.hub.respond(chat_id, prompt_id, response, responder=session.principal.subject)
        encoder.go_on(chat.message_id, shown, keeps_calls=chat.message_id is not None)
        return await self._open(session, chat_id, start, after=until, encoder=encoder)

    async def _send_results(self, session: Session, chat: ChatRequest, start: MessageStart) -> Response:
        """Start a run with the outputs of tools that the client has run, after a run that ended with their calls."""
        graph, chat_id = self.graph_name(chat.graph), chat.chat_id or ""
        messages = tool_messages(chat.answers, await self._calls(graph, chat_id))
        if not messages:
            raise PromptError(execution_id=chat_id)
        return await self._run(session, chat, graph, messages, start=start)

    # ------------------------------------------------------------ resume
    async def _resume(self, request: Request, peer: Peer) -> Response:
        """Send the message of the open run from its beginning; 204 without one that the caller may read."""
        chat_id = check_execution_id(request.path_params["chat_id"])
        session = await self.open_session(peer)
        try:
            try:
                state = await session.check("read", chat_id)
            except ForbiddenError:
                state = None
            if state is None or not self._resumes(state.state):
                session.close()
                return nothing_to_resume()
            return await self._open(
                session, chat_id, message_start(state), replay=True, head_only=request.method == "HEAD"
            )
        except BaseException as error:
            if isinstance(error, StreamingError):
                session.instrumentation.refused(error)
            session.close()
            raise

    def _resumes(self, state: str) -> bool:
        return state == "running" or (state == "interrupted" and self._settings.ai_sdk_resumes_interrupted)

    async def _open(
        self, session: Session, chat_id: str, start: MessageStart, *, after: Position | None = None, **options: Any
    ) -> Response:
        position = after if after is not None else start.after
        query = parse(
            SubscribeExecution,
            {"execution_id": chat_id, **({} if position is None else {"after": str(position)})},
        )
        return await open_message(
            self._context,
            session,
            query,
            start=start,
            form=self._form,
            max_duration=self._max_duration,
            headers={_RESUMABLE: quote(chat_id, safe="")},
            **options,
        )
