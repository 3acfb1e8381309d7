"""The body of a request: AG-UI's input of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, cast
from uuid import uuid4

from lg_streaming.errors import BadRequestError
from lg_streaming.events import check_execution_id
from lg_streaming.gateway.dialects.agui.messages import Json, as_list, id_of, members

__all__ = ["Answer", "RunInput", "read_input"]

_ROLES: Final = ("user", "assistant", "system", "developer", "tool", "reasoning", "activity")
_LONGEST_ID: Final = 256


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer to one interrupt."""

    interrupt_id: str
    status: Literal["resolved", "cancelled"]
    payload: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInput:
    """A request to run an agent, or to read its thread."""

    thread_id: str
    run_id: str
    parent_run_id: str | None
    is_modern: bool
    """True for a client of protocol 1.0 or later; an older one sends no ``protocolVersion``."""
    messages: list[Json]
    state: Json
    tools: list[Any]
    context: list[Any]
    resume: list[Answer]
    command: Any
    """``forwardedProps.command.resume``: the answer of older clients; None for none."""

    @property
    def resumes(self) -> bool:
        """Return whether the request answers interrupts."""
        return bool(self.resume) or self.command is not None


def read_input(body: object) -> RunInput:
    """Check the body of a request. Unknown fields are left out.

    Raises:
        BadRequestError: If a field cannot be used. The message names it.
    """
    if not isinstance(body, dict):
        raise BadRequestError("the body is a JSON object, with threadId, runId and messages")
    fields = members(cast("object", body))
    thread_id = fields.get("threadId")
    if not isinstance(thread_id, str):
        raise BadRequestError("threadId: a text is needed")
    return RunInput(
        thread_id=check_execution_id(thread_id),
        run_id=_text(fields, "runId") or uuid4().hex,
        parent_run_id=_text(fields, "parentRunId") or None,
        is_modern=bool(fields.get("protocolVersion")),
        messages=[_message(each, place) for place, each in enumerate(_list(fields, "messages"))],
        state=members(fields.get("state")),
        tools=_list(fields, "tools"),
        context=_list(fields, "context"),
        resume=[_answer(each, place) for place, each in enumerate(_list(fields, "resume"))],
        command=members(members(fields.get("forwardedProps")).get("command")).get("resume"),
    )


def _text(fields: Json, name: str) -> str:
    value = fields.get(name)
    if value is not None and (not isinstance(value, str) or len(value) > _LONGEST_ID):
        raise BadRequestError(f"{name}: a text of up to {_LONGEST_ID} characters is needed")
    return value or ""


def _list(fields: Json, name: str) -> list[Any]:
    value = fields.get(name)
    if value is not None and not isinstance(value, list):
        raise BadRequestError(f"{name}: a list is needed")
    return as_list(cast("object", value))


def _message(message: object, place: int) -> Json:
    fields = members(message)
    if fields.get("role") not in _ROLES:
        raise BadRequestError(f"messages[{place}].role: one of {', '.join(sorted(_ROLES))} is needed")
    if not isinstance(fields.get("id", ""), str):
        raise BadRequestError(f"messages[{place}].id: a text is needed")
    return fields


def _answer(entry: object, place: int) -> Answer:
    fields = members(entry)
    interrupt_id, status = id_of(fields.get("interruptId")), fields.get("status", "resolved")
    if not interrupt_id:
        raise BadRequestError(f"resume[{place}].interruptId: a text is needed")
    if status not in ("resolved", "cancelled"):
        raise BadRequestError(f"resume[{place}].status: resolved or cancelled is needed")
    return Answer(interrupt_id, status, fields.get("payload"))
