"""Inputs, contexts and configs of callers on the network fit the graph, and are converted to its types."""

from __future__ import annotations

import dataclasses
import operator
from datetime import UTC, datetime
from typing import Annotated, Any, Required, TypedDict

import pytest
from langchain_core.messages import AnyMessage, HumanMessage
from langgraph.func import entrypoint
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel

from lg_streaming.errors import BadRequestError
from lg_streaming.runs.schemas import GraphSchemas


class Nested(TypedDict):
    size: int


class State(TypedDict, total=False):
    text: Required[str]
    due: datetime
    notes: Annotated[list[str], operator.add]
    said: list[AnyMessage]
    nested: Nested
    anything: object


class Model(BaseModel):
    text: str
    size: int = 1


@dataclasses.dataclass
class Context:
    user: str
    size: int = 1


class Options(TypedDict, total=False):
    tone: Required[str]


def schemas(state: Any = State, context: Any = None) -> GraphSchemas:
    def work(_: Any) -> dict[str, Any]:
        return {}

    builder: Any = StateGraph(state, context_schema=context)
    return GraphSchemas(builder.add_node("work", work).add_edge(START, "work").compile())


def functional(declared: Any) -> GraphSchemas:
    async def work(value: Any) -> Any:
        return value

    work.__annotations__["value"] = declared
    make: Any = entrypoint()
    return GraphSchemas(make(work))


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"text": "a"}, {"text": "a"}),
        ({}, {}),  # a later turn gives a part of the state
        ({"due": "2026-11-29T10:00:00Z"}, {"due": datetime(2026, 11, 29, 10, tzinfo=UTC)}),
        ({"notes": ["a"]}, {"notes": ["a"]}),
        ({"said": [{"role": "user", "content": "hi"}]}, {"said": [HumanMessage("hi")]}),
        ({"said": {"type": "human", "content": "hi"}}, {"said": [HumanMessage("hi")]}),
        ({"said": "hi"}, {"said": [HumanMessage("hi")]}),
        ({"nested": {"size": 1}, "anything": {"x": [1]}}, {"nested": {"size": 1}, "anything": {"x": [1]}}),
    ],
)
def test_an_input_is_converted(given: Any, taken: Any) -> None:
    assert schemas().check_input(given) == taken


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (None, "input"),
        ([], "input"),
        ({"text": 1}, "input.text"),
        ({"other": 1}, "input.other"),
        ({"due": "soon"}, "input.due"),
        ({"notes": [1]}, "input.notes.0"),
        ({"said": [5]}, "input.said"),
        ({"said": [{"role": "nobody", "content": "x"}]}, "input.said"),
    ],
)
def test_an_input_that_does_not_fit_is_named(given: Any, field: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        schemas().check_input(given)
    assert refused.value.message.startswith(f"{field}: ")


def test_other_kinds_of_graphs() -> None:
    assert schemas(Model).check_input({"size": 2}) == {"size": 2}
    with pytest.raises(BadRequestError, match=r"^input\.size"):
        schemas(Model).check_input({"size": "2"})
    assert functional(int).check_input(5) == 5
    with pytest.raises(BadRequestError, match=r"^input: "):
        functional(int).check_input("5")
    assert functional(Any).check_input({"any": ["thing"]}) == {"any": ["thing"]}
    assert schemas(MessagesState).check_input({"messages": "hi"})["messages"] == [HumanMessage("hi")]


def test_a_context_is_complete() -> None:
    assert schemas(context=Context).check_context({"user": "a"}) == Context("a")
    assert schemas(context=Options).check_context({"tone": "low"}) == {"tone": "low"}
    for context, given, field in (
        (Context, {}, "context.user"),
        (Context, {"user": "a", "more": 1}, "context.more"),
        (Options, {}, "context.tone"),
        (Options, {"tone": 1}, "context.tone"),
        (None, {}, "context"),
    ):
        with pytest.raises(BadRequestError) as refused:
            schemas(context=context).check_context(given)
        assert refused.value.message.startswith(f"{field}: ")


def test_only_declared_keys_are_configurable() -> None:
    found = schemas(context=Context)
    assert found.check_configurable({"user": "a"}) == {"user": "a"}
    for name in ("thread_id", "checkpoint_id", "checkpoint_ns", "__pregel_send", "other"):
        with pytest.raises(BadRequestError, match=f"config.configurable.{name}"):
            found.check_configurable({name: "a"})


def test_a_reserved_key_stays_reserved_where_the_graph_declares_it() -> None:
    @dataclasses.dataclass
    class Sly:
        thread_id: str = ""

    with pytest.raises(BadRequestError):
        schemas(context=Sly).check_configurable({"thread_id": "another's"})


def test_the_schemas_are_described() -> None:
    described = schemas(context=Context).describe()
    assert described["input_schema"]["properties"]["text"] == {"type": "string"}
    assert described["input_schema"]["properties"]["said"]["type"] == "array"
    assert described["context_schema"]["properties"]["user"] == {"type": "string"}
    assert schemas().describe()["context_schema"] is None
    assert functional(int).describe()["input_schema"] == {"type": "integer"}
