"""Usage of a run: the sum over its calls of models, however often each is reported."""

from typing import Any

import orjson
import pytest

from lg_streaming.hub import StreamHub
from lg_streaming.hub.usage import CallUsage
from lg_streaming.log import Usage
from lg_streaming.publisher import Scope

REQUEST = Scope(request_id="q1", message_id="m1")
CAPTURED = Scope(request_id="q1", message_id="m1", node_id="write")
MESSAGE = Scope(message_id="m1", node_id="write")
NODE = Scope(node_id="write")
TEN = {"input_tokens": 10, "output_tokens": 2, "total_tokens": 12}

Report = tuple[str, Any, Scope]


def total(*reports: Report) -> tuple[int, int, int, float | None] | None:
    calls, found = CallUsage(), None
    for report in reports:
        added = calls.note(*report)
        if added is not None:
            found = added if found is None else found.plus(added)
    return found


def ended(usage: Any, scope: Scope = REQUEST) -> Report:
    return ("llm_complete", {"model": "m", "usage": usage}, scope)


CASES: dict[str, tuple[list[Report], tuple[int, int, int, float | None] | None]] = {
    "by one type": ([ended(TEN)], (10, 2, 12, None)),
    "by both types": ([ended(TEN), ("usage", TEN, REQUEST)], (10, 2, 12, None)),
    "so far, and at the end": (
        [("usage", {"input_tokens": 10}, REQUEST), ("usage", {**TEN, "cost": 0.5}, REQUEST), ended(TEN)],
        (10, 2, 12, 0.5),
    ),
    "of another attempt": ([ended(TEN), ended(TEN, REQUEST.derive(attempt=2))], (20, 4, 24, None)),
    "of another call under the same id": ([ended(TEN), ended(TEN)], (20, 4, 24, None)),
    "of calls without an id": ([("usage", TEN, NODE), ("usage", TEN, NODE)], (20, 4, 24, None)),
    "by a message and by its node": ([ended(TEN, MESSAGE), ("usage", TEN, NODE)], (10, 2, 12, None)),
    "by a node and by its message": ([("usage", TEN, NODE), ended(TEN, MESSAGE)], (10, 2, 12, None)),
    "by a captured call, and with its cost by the node": (
        [ended(TEN, CAPTURED), ("usage", {**TEN, "cost": 0.5}, NODE)],
        (10, 2, 12, 0.5),
    ),
    "with its cost by the node, and by a message": (
        [("usage", {**TEN, "cost": 0.5}, NODE), ended(TEN, MESSAGE)],
        (10, 2, 12, 0.5),
    ),
    "by a request, and of another call of its node": (
        [("usage", TEN, CAPTURED), ended(TEN, CAPTURED), ("usage", TEN, NODE)],
        (20, 4, 24, None),
    ),
    "of another node": ([ended(TEN, MESSAGE), ("usage", TEN, Scope(node_id="other"))], (20, 4, 24, None)),
    "under OpenAI's names": ([ended({"prompt_tokens": 7, "completion_tokens": 3})], (7, 3, 10, None)),
    "as JSON": ([("usage", orjson.Fragment(b'{"input_tokens":1}'), REQUEST)], (1, 0, 1, None)),
    "with a cost alone": ([("usage", {"cost": 0.25}, REQUEST)], (0, 0, 0, 0.25)),
    "not at all": ([ended(None), ("usage", {}, NODE), ("usage", "much", NODE), ("llm_complete", None, NODE)], None),
    "of a wrong kind": (
        [("usage", {"input_tokens": True, "output_tokens": -5, "total_tokens": "9", "cost": float("nan")}, NODE)],
        None,
    ),
}


@pytest.mark.parametrize(("reports", "expected"), CASES.values(), ids=list(CASES))
def test_usage_is_reported(reports: list[Report], expected: Any) -> None:
    assert total(*reports) == expected


def test_only_the_newest_calls_are_kept() -> None:
    calls = CallUsage()
    for number in range(5_000):
        calls.note("llm_complete", {"usage": TEN}, Scope(request_id=f"q{number}"))
    assert calls.note("usage", TEN, Scope(request_id="q4999")) is None
    assert calls.note("usage", TEN, Scope(request_id="q0")) is not None


@pytest.mark.parametrize("usage", [Usage(), Usage(1, 2, 3), Usage(-1, 2**53, 3, 1e-12)], ids=["zero", "some", "odd"])
def test_a_usage_can_be_kept_as_text(usage: Usage) -> None:
    assert Usage.parse(usage.text) == usage


async def test_a_usage_that_redact_removes_is_not_known() -> None:
    hub = StreamHub(redact=lambda name, data: None if name == "usage" else data)
    hub.open("e")
    hub.emitter("e").usage(10, 2)
    state = await hub.describe("e")
    assert state is not None
    assert state.usage is None
    await hub.aclose()
