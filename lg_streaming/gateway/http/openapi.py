"""The OpenAPI description of the HTTP routes, made of the models that check what comes in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from pydantic.json_schema import models_json_schema

from lg_streaming.errors import CODES
from lg_streaming.filters import FILTER_FIELDS
from lg_streaming.gateway.http.assets import ASSETS
from lg_streaming.gateway.protocol.http_models import (
    ErrorResponse,
    ExecutionInfo,
    Executions,
    FleetInfo,
    Graphs,
    Health,
    HistoryQuery,
    InputBody,
    IssuedLink,
    LinkRequest,
    ListQuery,
    PromptResponse,
    StreamQuery,
    Ticket,
    TicketRequest,
    UpdatesPage,
)
from lg_streaming.gateway.protocol.inbound import CancelExecution, PauseExecution, StartExecution
from lg_streaming.gateway.protocol.outbound import (
    PROTOCOL_VERSION,
    Cancelled,
    Injected,
    Paused,
    Responded,
    Resumed,
    Started,
)
from lg_streaming.gateway.protocol.state_models import ExecutionGraphInfo, ForkBody, StateInfo, States, StatesQuery

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.json_schema import JsonSchemaMode

__all__ = ["openapi_schema"]

_Json = dict[str, Any]

_IN: Final[tuple[type[BaseModel], ...]] = (
    PromptResponse,
    StartExecution,
    InputBody,
    LinkRequest,
    CancelExecution,
    PauseExecution,
    ListQuery,
    StreamQuery,
    TicketRequest,
    HistoryQuery,
    ForkBody,
    StatesQuery,
)
_OUT: Final[tuple[type[BaseModel], ...]] = (
    Cancelled,
    ErrorResponse,
    ExecutionGraphInfo,
    ExecutionInfo,
    Executions,
    FleetInfo,
    Graphs,
    Health,
    Injected,
    IssuedLink,
    Paused,
    Responded,
    Resumed,
    Started,
    StateInfo,
    States,
    Ticket,
    UpdatesPage,
)
_EVERYWHERE: Final = (400, 401, 403, 429, 503)
_BODY: Final = (408, 413)
_AN_ID: Final = {
    "name": "execution_id",
    "in": "path",
    "required": True,
    "description": "Printable characters without spaces. A last `/` is percent-encoded where what follows it is the "
    "name of a route.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 256, "pattern": r"^[!-~]+$"},
}
_CHECKPOINT: Final = {
    "name": "checkpoint_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": 256},
}
_IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A repeated start with the same key returns the run of the first one.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 256},
}


def openapi_schema(prefix: str = "") -> _Json:
    """Return the OpenAPI 3.1 description of the routes.

    Args:
        prefix: The start of every path: `gateway.prefix`.
    """
    inbound, outbound = _schemas(_IN, by_alias=False), _schemas(_OUT, by_alias=True)
    assets = {f"/{path}": {"get": _asset(asset.media_type)} for path, asset in ASSETS.items()}
    paths = {**_of_the_server(), **_of_executions(inbound), **assets}
    options = (ListQuery, StreamQuery, HistoryQuery, StatesQuery, CancelExecution, PauseExecution)
    queries = {model.__name__ for model in options}
    return {
        "openapi": "3.1.0",
        "info": {"title": "lg_streaming", "version": str(PROTOCOL_VERSION)},
        "paths": {f"{prefix}{path}": methods for path, methods in paths.items()},
        "components": {
            "schemas": {name: schema for name, schema in (inbound | outbound).items() if name not in queries},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
        "security": [{"bearer": []}, {}],
    }


def _schemas(models: Iterable[type[BaseModel]], *, by_alias: bool) -> _Json:
    wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = [(model, "validation") for model in models]
    return models_json_schema(wanted, by_alias=by_alias, ref_template="#/components/schemas/{model}")[1]["$defs"]


def _of_the_server() -> _Json:
    health = {200: Health, 503: Health}
    return {
        "/health": {"get": _operation("Whether requests should be sent here.", health, errors=())},
        "/health/live": {"get": _operation("Whether the process answers at all.", {200: Health}, errors=())},
        "/health/ready": {"get": _operation("Whether requests should be sent here.", health, errors=())},
        "/metrics": {"get": _METRICS},
        "/fleet": {
            "get": _operation(
                "The processes that share the log, for those who may read 'lg_streaming/fleet'.", {200: FleetInfo}
            )
        },
        "/graphs": {"get": _operation("The graphs that the caller may start.", {200: Graphs})},
        "/tickets": {
            "post": _operation(
                "A credential for one request, for where a browser can send no header.",
                {201: Ticket},
                body=TicketRequest,
                errors=(*_EVERYWHERE, *_BODY),
            )
        },
    }


def _of_executions(inbound: _Json) -> _Json:
    lists = inbound[ListQuery.__name__]["properties"]
    pages = inbound[HistoryQuery.__name__]["properties"]
    cancel = inbound[CancelExecution.__name__]["properties"]
    streams = inbound[StreamQuery.__name__]["properties"]
    stream_options = (*FILTER_FIELDS, "after", "on_gap", "follow", "batch", "merge", "named", "event", "dialect")
    return {
        "/executions": {
            "get": _operation(
                "The executions the caller may see, in the order of their ids or the newest start first.",
                {200: Executions},
                _parameters(lists, lists),
            ),
            "post": _operation(
                "Start a run of a registered graph, which goes on without its caller.",
                {201: Started},
                [_IDEMPOTENCY_KEY],
                body=StartExecution,
                errors=(*_EVERYWHERE, *_BODY, 409),
            ),
        },
        "/executions/{execution_id}": {
            "get": _operation("What is known of an execution.", {200: ExecutionInfo}, [_AN_ID]),
            "delete": _operation("Cancel the open run.", {202: Cancelled}, [_AN_ID, *_parameters(cancel, ("reason",))]),
        },
        "/executions/{execution_id}/updates": {
            "get": _operation(
                "A page of updates.",
                {200: UpdatesPage},
                [_AN_ID, *_parameters(pages, (*FILTER_FIELDS, "after", "on_gap", "follow", "limit", "wait"))],
            )
        },
        "/executions/{execution_id}/responses": {
            "post": _operation(
                "Answer a human prompt.",
                {200: Responded},
                [_AN_ID],
                body=PromptResponse,
                errors=(*_EVERYWHERE, *_BODY, 409),
            )
        },
        "/executions/{execution_id}/links": {
            "post": _operation(
                "A read-only credential for this execution, until an end.",
                {201: IssuedLink},
                [_AN_ID],
                body=LinkRequest,
                errors=(*_EVERYWHERE, *_BODY),
            )
        },
        **_steering(inbound),
        **_states(inbound),
        "/executions/{execution_id}/stream": {
            "get": {
                **_operation("All updates as Server-Sent Events.", {}, [_AN_ID, *_parameters(streams, stream_options)]),
                "responses": {
                    "200": {"description": "The stream.", "content": {"text/event-stream": {}}},
                    "204": {"description": "The reader has it all."},
                    **_errors(_EVERYWHERE),
                },
            }
        },
    }


def _steering(inbound: _Json) -> _Json:
    pause = inbound[PauseExecution.__name__]["properties"]
    errors = (*_EVERYWHERE, 409)
    return {
        "/executions/{execution_id}/pause": {
            "post": _operation(
                "Pause the open run, after the nodes that are at work.",
                {202: Paused},
                [_AN_ID, *_parameters(pause, ("reason",))],
                errors=errors,
            )
        },
        "/executions/{execution_id}/resume": {
            "post": _operation("Continue a paused run.", {202: Resumed}, [_AN_ID], errors=errors)
        },
        "/executions/{execution_id}/inputs": {
            "post": _operation(
                "Update the state of the open run before its next step.",
                {202: Injected},
                [_AN_ID],
                body=InputBody,
                errors=(*errors, *_BODY),
            )
        },
    }


def _states(inbound: _Json) -> _Json:
    query = inbound[StatesQuery.__name__]["properties"]
    errors = (*_EVERYWHERE, 404, 409)
    return {
        "/executions/{execution_id}/graph": {
            "get": _operation(
                "Nodes and edges of the graph of the last run.",
                {200: ExecutionGraphInfo},
                [_AN_ID],
                errors=(*_EVERYWHERE, 404),
            )
        },
        "/executions/{execution_id}/states": {
            "get": _operation(
                "A page of the states of the graph, newest first.",
                {200: States},
                [_AN_ID, *_parameters(query, query)],
                errors=errors,
            )
        },
        "/executions/{execution_id}/states/{checkpoint_id}": {
            "get": _operation(
                "The whole state of a checkpoint.", {200: StateInfo}, [_AN_ID, _CHECKPOINT], errors=errors
            )
        },
        "/executions/{execution_id}/forks": {
            "post": _operation(
                "Start a new execution that goes on from a checkpoint.",
                {201: Started},
                [_AN_ID],
                body=ForkBody,
                errors=(*errors, *_BODY),
            )
        },
    }


def _operation(
    summary: str,
    answers: Mapping[int, type[BaseModel]],
    parameters: Iterable[_Json] = (),
    *,
    body: type[BaseModel] | None = None,
    errors: Iterable[int] = _EVERYWHERE,
) -> _Json:
    told = {str(status): _content(model.__doc__ or "", model) for status, model in answers.items()}
    operation: _Json = {"summary": summary, "parameters": list(parameters), "responses": {**told, **_errors(errors)}}
    if body is not None:
        operation["requestBody"] = {**_content(body.__doc__ or "", body), "required": True}
    return operation


def _errors(statuses: Iterable[int]) -> _Json:
    return {
        str(status): _content(
            ", ".join(f"{code.number} {code.name}" for code in CODES.values() if code.http_status == status),
            ErrorResponse,
        )
        for status in sorted(statuses)
    }


def _content(description: str, model: type[BaseModel]) -> _Json:
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _parameters(properties: _Json, names: Iterable[str]) -> list[_Json]:
    return [_parameter(name, properties[name]) for name in names]


def _parameter(name: str, schema: _Json) -> _Json:
    """Describe an option of a query. A query omits an optional parameter, so the schema has no null."""
    options = [each for each in schema.get("anyOf", [schema]) if each.get("type") != "null"]
    plain = options[0] if len(options) == 1 else {"anyOf": options}
    parameter: _Json = {"name": name, "in": "query", "schema": plain}
    if "description" in schema:
        parameter["description"] = schema["description"]
    if plain.get("type") == "array":
        parameter |= {"style": "form", "explode": name == "id"}  # an id may have a comma
    return parameter


def _asset(media_type: str) -> _Json:
    return {
        "summary": "A file of the module for browsers.",
        "parameters": [],
        "responses": {
            "200": {"description": "The file.", "content": {media_type: {"schema": {"type": "string"}}}},
            "304": {"description": "The caller has it already."},
        },
        "security": [{}],
    }


_METRICS: Final[_Json] = {
    "summary": "Counts, for Prometheus, for those who may read 'lg_streaming/metrics'.",
    "parameters": [],
    "responses": {
        "200": {
            "description": "The metrics, as Prometheus or OpenMetrics text.",
            "content": {
                "text/plain": {"schema": {"type": "string"}},
                "application/openmetrics-text": {"schema": {"type": "string"}},
            },
        },
        **_errors(_EVERYWHERE),
    },
}
