"""Registry of the messages of protocol version 1: names, checks of inbound messages, and the JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.json_schema import models_json_schema
from pydantic_core import ErrorDetails

from lg_streaming.errors import BadRequestError, StreamingError
from lg_streaming.events import Kind
from lg_streaming.gateway.protocol.inbound import (
    Authenticate,
    CancelExecution,
    Empty,
    Inbound,
    InjectInput,
    PauseExecution,
    Respond,
    ResumeExecution,
    RoomMessage,
    StartExecution,
    SubscribeEvents,
    SubscribeExecution,
    UnsubscribeEvents,
    UnsubscribeExecution,
)
from lg_streaming.gateway.protocol.outbound import (
    PROTOCOL_VERSION,
    Authenticated,
    AuthExpiring,
    Cancelled,
    ConnectionStatus,
    DirectMessage,
    ErrorBody,
    EventsSubscribed,
    Failure,
    GapMessage,
    Heartbeat,
    Injected,
    Ok,
    Paused,
    Pong,
    Responded,
    Resumed,
    RoomAnswer,
    ServerRestart,
    Started,
    Status,
    Subscribed,
    SubscriptionClosed,
    Unsubscribed,
    Update,
    Updates,
)
from lg_streaming.payloads import PAYLOADS

__all__ = [
    "MAX_NESTING",
    "MESSAGES_IN",
    "MESSAGES_OUT",
    "PROTOCOL_VERSION",
    "RESERVED_EVENTS",
    "check_nesting",
    "failure",
    "json_schema",
    "parse",
    "parse_message",
]

MAX_NESTING: Final = 32
"""Deepest nesting of arrays and objects in an inbound message."""

RESERVED_EVENTS: Final = frozenset(
    {"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"}
)
"""Names that a client may not emit, because they would run the server's internal handlers."""

MESSAGES_IN: Final[Mapping[str, tuple[type[Inbound], type[Ok]]]] = MappingProxyType(
    {
        "subscribe_execution": (SubscribeExecution, Subscribed),
        "unsubscribe_execution": (UnsubscribeExecution, Unsubscribed),
        "subscribe_events": (SubscribeEvents, EventsSubscribed),
        "unsubscribe_events": (UnsubscribeEvents, EventsSubscribed),
        "join_room": (RoomMessage, RoomAnswer),
        "leave_room": (RoomMessage, RoomAnswer),
        "start_execution": (StartExecution, Started),
        "respond": (Respond, Responded),
        "cancel_execution": (CancelExecution, Cancelled),
        "pause_execution": (PauseExecution, Paused),
        "resume_execution": (ResumeExecution, Resumed),
        "inject_input": (InjectInput, Injected),
        "authenticate": (Authenticate, Authenticated),
        "ping": (Empty, Pong),
        "get_status": (Empty, Status),
    }
)
"""Messages of clients: the payload and the answer of each."""

_KINDS: Final[tuple[Kind, ...]] = ("token", "progress", "status", "event")

MESSAGES_OUT: Final[Mapping[str, type[BaseModel]]] = MappingProxyType(
    {
        "connection_status": ConnectionStatus,
        **dict.fromkeys(_KINDS, Update),
        "updates": Updates,
        "gap": GapMessage,
        "heartbeat": Heartbeat,
        "subscription_closed": SubscriptionClosed,
        "auth_expiring": AuthExpiring,
        "server_restart": ServerRestart,
        "error": ErrorBody,
        "message": DirectMessage,
    }
)
"""Messages of the server that are no answers."""


# ---------------------------------------------------------------- checking
Model = TypeVar("Model", bound=Inbound)


def parse(model: type[Model], payload: object) -> Model:
    """Parse ``payload`` as a ``model``.

    Raises:
        BadRequestError: If the payload does not fit; the message names the fields.
        BadPositionError: If ``after`` is not a position.
    """
    if payload is None:
        payload = {}
    if not isinstance(payload, Mapping):
        raise BadRequestError(f"a payload is an object, not {type(payload).__name__}")
    try:
        return model.model_validate(payload)
    except ValidationError as error:
        raise BadRequestError(_complaints(error)) from None


def _complaints(error: ValidationError, limit: int = 3) -> str:
    found = error.errors(include_url=False, include_input=False, include_context=False)
    told = [_complaint(each)[:200] for each in found]
    more = [f"and {len(told) - limit} more"] if len(told) > limit else []
    return "; ".join(told[:limit] + more)


def _complaint(detail: ErrorDetails) -> str:
    field = ".".join(str(part) for part in detail["loc"]) or "payload"
    return f"{field}: {'there is no such field' if detail['type'] == 'extra_forbidden' else detail['msg']}"


def parse_message(name: str, arguments: Sequence[object]) -> Inbound:
    """Parse the payload of message ``name``.

    Raises:
        BadRequestError: If the message does not exist, or its payload does not fit.
    """
    known = MESSAGES_IN.get(name)
    if known is None:
        raise BadRequestError(f"there is no message {name!r:.80}: use one of {', '.join(MESSAGES_IN)}")
    if len(arguments) > 1:
        raise BadRequestError(f"{name!r} takes one payload, not {len(arguments)}")
    return parse(known[0], arguments[0] if arguments else None)


# Possessive, and an unfinished string reaches to the end: otherwise hostile text would take quadratic time.
_STRING_OR_BRACKET: Final = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)


def check_nesting(text: str) -> None:
    """Check the nesting of JSON text before it is parsed.

    Raises:
        BadRequestError: If arrays and objects nest deeper than 32.
    """
    if text.count("[") + text.count("{") <= MAX_NESTING:
        return
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        mark = match[0]
        if mark in "[{":
            depth += 1
            if depth > MAX_NESTING:
                raise BadRequestError(f"the message nests deeper than {MAX_NESTING}")
        elif mark in "]}":
            depth -= 1


def failure(error: StreamingError) -> dict[str, Any]:
    """Return the answer to a refused message."""
    return {"ok": False, "error": error.to_dict()}


# ---------------------------------------------------------------- schema
def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of every message, by direction and name, with shared definitions under ``$defs``."""
    inbound = _schemas({payload for payload, _ in MESSAGES_IN.values()}, by_alias=False)
    answers = {answer for _, answer in MESSAGES_IN.values()}
    outbound = _schemas({*MESSAGES_OUT.values(), *answers, Failure, *PAYLOADS.values()}, by_alias=True)
    references = inbound[0] | outbound[0]

    def schema(model: type[BaseModel]) -> Any:
        return references[model]

    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "lg_streaming wire protocol",
        "version": PROTOCOL_VERSION,
        "client_to_server": {
            name: {"payload": schema(payload), "ack": {"anyOf": [schema(answer), schema(Failure)]}}
            for name, (payload, answer) in MESSAGES_IN.items()
        },
        "server_to_client": {name: schema(model) for name, model in MESSAGES_OUT.items()},
        "data": {name: schema(model) for name, model in PAYLOADS.items()},
        "$defs": inbound[1] | outbound[1],
    }


def _schemas(models: Iterable[type[BaseModel]], *, by_alias: bool) -> tuple[dict[type[BaseModel], Any], dict[str, Any]]:
    """Return a reference to each model, and the definitions to which the references point."""
    ordered = sorted(models, key=lambda model: model.__name__)
    references, shared = models_json_schema([(model, "validation") for model in ordered], by_alias=by_alias)
    return {model: references[model, "validation"] for model in ordered}, shared["$defs"]
