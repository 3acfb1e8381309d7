"""Commands of event streaming, over HTTP or WebSocket."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from lg_streaming.errors import BadRequestError, StreamingError
from lg_streaming.gateway.dialects.langgraph.bodies import RunBody, parse_body
from lg_streaming.gateway.dialects.langgraph.channels import Selection
from lg_streaming.gateway.dialects.langgraph.event_shapes import as_list, as_text, members
from lg_streaming.gateway.dialects.langgraph.refusals import RefusedError
from lg_streaming.gateway.dialects.langgraph.segments import segment_id
from lg_streaming.gateway.dialects.langgraph.tape import SLOTS, Tape

if TYPE_CHECKING:
    from lg_streaming.gateway.dialects.langgraph.services import Services
    from lg_streaming.gateway.session.session import Session

__all__ = ["Command", "Commands", "failed"]

logger: logging.Logger = logging.getLogger(__name__)

_PAGE: Final = 2_000
_MOST_ANSWERS: Final = 1_000
_WEB_SOCKET_ONLY: Final = frozenset({"subscription.subscribe", "subscription.unsubscribe", "subscription.reconnect"})
_LACKING: Final = frozenset({"input.inject", "state.get", "state.listCheckpoints", "state.fork"})


@dataclass(frozen=True, slots=True)
class Command:
    """A command."""

    id: int
    method: str
    params: Mapping[str, Any]

    @classmethod
    def parse(cls, value: object) -> Command:
        """Return the command in a message.

        Raises:
            BadRequestError: If it has no id or no method.
        """
        fields = members(value)
        number, method = fields.get("id"), fields.get("method")
        if isinstance(number, bool) or not isinstance(number, int) or number < 0 or not isinstance(method, str):
            raise BadRequestError("a command is an object with an id, a whole number, and a method")
        return cls(number, method, members(fields.get("params")))


def failed(number: int | None, code: str, message: str) -> dict[str, Any]:
    """Return the response to a command that is refused."""
    return {"type": "error", "id": number, "error": code, "message": message}


class _CommandError(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Commands:
    """Commands to threads.

    Args:
        services: What the routes of the wire share.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    async def carry_out(self, session: Session, thread_id: str, command: Command) -> dict[str, Any]:
        """Carry out a command; return its response, also if it is refused."""
        try:
            match command.method:
                case "run.start":
                    result, applied = await self._start(session, thread_id, command.params)
                case "input.respond":
                    result, applied = await self._respond(session, thread_id, command.params)
                case "agent.getTree":
                    result, applied = await self._tree(session, thread_id)
                case name if name in _WEB_SOCKET_ONLY or name in _LACKING:
                    raise _CommandError("not_supported", f"{name} is not supported here")
                case name:
                    raise _CommandError("unknown_command", f"{name:.80} is no command")
        except _CommandError as error:
            return failed(command.id, error.code, error.message)
        except RefusedError as error:
            return failed(command.id, "unknown_error", f"{error.status}: {error.detail}")
        except StreamingError as error:
            code = "invalid_argument" if isinstance(error, BadRequestError) else "unknown_error"
            return failed(command.id, code, f"{error.http_status}: {error.message}")
        return {"type": "success", "id": command.id, "result": result, "meta": {"applied_through_seq": applied}}

    async def _start(self, session: Session, thread_id: str, params: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        """Start a run. On a thread that waits for people the input is the answer, as the protocol has it."""
        if not as_text(params.get("assistant_id")):
            raise _CommandError("invalid_argument", "assistant_id is required")
        given = {**params, "if_not_exists": "create", "stream_mode": None}
        given["multitask_strategy"] = params.get("multitask_strategy") or params.get("multitaskStrategy")
        body = parse_body(RunBody, given)
        if body.input is not None and body.fork is None and body.command is None:
            view = await self._services.threads.look(session, thread_id)
            if view is not None and view.waits:
                body = parse_body(RunBody, {**given, "command": {"resume": body.input}})
        started = await self._services.starter.start(session, body, thread_id)
        record = started.record
        # With 0 clients wait for the start of this run: the events of an earlier one may still come.
        applied = 0 if record.queued or not record.begin else (record.begin + 1) * SLOTS - 1
        return {"run_id": record.run_id}, applied

    async def _respond(self, session: Session, thread_id: str, params: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        if params.get("goto") is not None:
            raise _CommandError("not_supported", "goto is not supported in an answer")
        entries = as_list(params.get("responses")) if "responses" in params else [params]
        answers = {as_text(members(each).get("interrupt_id")): members(each).get("response") for each in entries}
        if not answers or "" in answers or len(answers) > _MOST_ANSWERS:
            raise _CommandError("invalid_argument", "interrupt_id names the interrupt of each response")
        view = await self._services.threads.find(session, thread_id)
        state = view.state
        prompts = view.table.prompts if view.table is not None else {}
        unknown = next((each for each in answers if each not in prompts), None)
        if unknown is not None and view.waits:
            raise _CommandError("no_such_interrupt", f"the interrupt {unknown:.100} does not wait for an answer")
        try:
            await self._services.starter.answer(session, view, answers, update=params.get("update"))
        except RefusedError as error:
            if error.status == 409:  # noqa: PLR2004
                raise _CommandError("no_such_interrupt", error.detail) from None
            raise
        return {}, 0 if state is None else (state.head + 1) * SLOTS - 1

    async def _tree(self, session: Session, thread_id: str) -> tuple[dict[str, Any], int]:
        """Return the graphs that have worked in the thread, with their last status."""
        await self._services.threads.find(session, thread_id)
        found: list[dict[str, Any]] = []

        def keep(_method: bytes, _event_id: bytes, json: bytes) -> bytes:
            found.append(orjson.loads(json)["params"])
            return b""

        tape, seq = Tape(keep, [Selection(frozenset({"lifecycle"}))], segment_id), 0
        while (page := await session.hub.log.read(thread_id, seq, _PAGE)) is not None and page.records:
            tape.encode(thread_id, page.records)
            seq = page.records[-1].seq
        return {"tree": _tree_of(found)}, max(tape.last, 0)


def _tree_of(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the tree of the last run."""
    nodes: dict[tuple[str, ...], dict[str, Any]] = {}
    for event in events:
        namespace, data = tuple(cast("list[str]", event["namespace"])), event["data"]
        if not namespace and data["event"] == "running":
            nodes = {}
        node = nodes.setdefault(namespace, {"namespace": list(namespace), "children": []})
        node |= {"status": data["event"], "graph_name": data["graph_name"]}
    root = nodes.setdefault((), {"namespace": [], "status": "started", "graph_name": "", "children": []})
    for namespace, node in nodes.items():
        if namespace:
            around = next(
                (nodes[namespace[:end]] for end in range(len(namespace) - 1, 0, -1) if namespace[:end] in nodes), root
            )
            around["children"].append(node)
    return root
