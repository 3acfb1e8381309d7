"""Inbound messages are checked strictly; every message has a schema."""

import json
import time
from contextlib import suppress
from typing import Any

import pytest

from lg_streaming.errors import BadPositionError, BadRequestError
from lg_streaming.gateway.protocol.inbound import SubscribeExecution
from lg_streaming.gateway.protocol.registry import MESSAGES_IN, MESSAGES_OUT, check_nesting, json_schema, parse_message


def subscribe(**payload: Any) -> SubscribeExecution:
    message = parse_message("subscribe_execution", [payload])
    assert isinstance(message, SubscribeExecution)
    return message


def test_snake_case_and_camel_case_are_read() -> None:
    snake = subscribe(execution_id="a/b", node_ids=["write"], min_priority="high", on_gap="tail", batch=True)
    camel = subscribe(executionId="a/b", nodeIds=["write"], minPriority="high", onGap="tail", batch=True)
    assert snake == camel


def test_absent_fields_have_their_defaults() -> None:
    plain = subscribe(execution_id="a")
    assert (plain.after, plain.batch, plain.follow, plain.on_gap, plain.events) == (None, False, False, "oldest", None)


@pytest.mark.row("HIVE-D24")
@pytest.mark.parametrize(
    ("payload", "told"),
    [
        (None, "execution_id: Field required"),
        ([], "a payload is an object, not list"),
        ("exec-1", "a payload is an object, not str"),
        ({}, "execution_id"),
        ({"execution_id": ""}, "the execution id is required"),
        ({"execution_id": "a b"}, "no spaces"),
        ({"execution_id": "a\x00"}, "printable"),
        ({"execution_id": "x" * 257}, "execution_id"),
        ({"execution_id": 7}, "execution_id"),
        ({"execution_id": "a", "executionId": "b"}, "there is no such field"),
        ({"execution_id": "a", "node_id": "write"}, "node_id: there is no such field"),
        ({"execution_id": "a", "events": "token"}, "events"),
        ({"execution_id": "a", "events": [1]}, "events.0"),
        ({"execution_id": "a", "events": ["x"] * 129}, "events"),
        ({"execution_id": "a", "batch": "yes"}, "batch"),
        ({"execution_id": "a", "follow": 1}, "follow"),
        ({"execution_id": "a", "on_gap": "skip"}, "on_gap"),
        ({"execution_id": "a", "min_priority": "urgent"}, "min_priority"),
        ({"execution_id": "a", "merge": 1}, "merge: Input should be a valid boolean"),
        ({"execution_id": "a", "delivery": "at-least-once"}, "delivery: there is no such field"),
        ({"execution_id": "a", "since": "yesterday"}, "since: a time looks like"),
        ({"execution_id": "a", "since": "2026-11-20T20:00:00"}, "since: Input should have timezone info"),
        ({"execution_id": "a", "until": 7}, "until: a time is a text"),
    ],
)
def test_a_bad_payload_is_refused_by_field(payload: Any, told: str) -> None:
    with pytest.raises(BadRequestError, match="(?s).*" + told.replace(".", r"\.")):
        parse_message("subscribe_execution", [payload])


@pytest.mark.parametrize("after", ["", "x", "k3f9", "k3f9:", "k3f9:-1", ":1", "k3f9:1:2", "k3f9:99999999999999999999"])
def test_a_bad_position_has_its_own_code(after: str) -> None:
    with pytest.raises(BadPositionError):
        subscribe(execution_id="a", after=after)


def test_positions_that_can_be_read() -> None:
    assert subscribe(execution_id="a", after="k3f9:17").after == "k3f9:17"
    assert subscribe(execution_id="a", after="latest").after == "latest"


@pytest.mark.parametrize("name", ["shout", "ack"])
def test_unknown_messages_are_refused(name: str) -> None:
    with pytest.raises(BadRequestError, match=f"there is no message '{name}'"):
        parse_message(name, [{"execution_id": "a", "position": "k3f9:1"}])


def test_second_payloads_are_refused() -> None:
    with pytest.raises(BadRequestError, match="takes one payload"):
        parse_message("ping", [{}, {}])


def test_nesting_is_looked_at_before_anything_is_parsed() -> None:
    check_nesting("[" * 32 + "]" * 32)
    check_nesting('["' + "[" * 1_000 + '"]')
    check_nesting('["' + '\\"[' * 1_000 + '"]')
    with pytest.raises(BadRequestError, match="nests deeper"):
        check_nesting("[" * 33 + "]" * 33)
    with pytest.raises(BadRequestError, match="nests deeper"):
        check_nesting('{"a":' * 33)


@pytest.mark.parametrize(
    "text", ['"' + '\\"' * 32_000 + "[" * 40, "[" + "[]," * 16_000 + "[]]", '"' * 65_000 + "[" * 40]
)
def test_hostile_text_costs_little_time(text: str) -> None:
    began = time.perf_counter()
    with suppress(BadRequestError):
        check_nesting(text)
    assert time.perf_counter() - began < 0.5


def test_every_message_has_a_schema_whose_references_resolve() -> None:
    schema = json_schema()
    assert schema["client_to_server"].keys() == MESSAGES_IN.keys()
    assert schema["server_to_client"].keys() == MESSAGES_OUT.keys()
    text = json.dumps(schema)
    references = {part.split('"')[0] for part in text.split('"$ref": "#/$defs/')[1:]}
    assert references
    assert references <= schema["$defs"].keys()
    assert "execution_id" in schema["$defs"]["SubscribeExecution"]["properties"]
    assert "from" in schema["$defs"]["GapMessage"]["properties"]
