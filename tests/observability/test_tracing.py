"""Spans of real graphs, as an exporter gets them."""

import asyncio
import re
import sys
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import StateGraph
from langgraph.types import Command, RetryPolicy, interrupt
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from lg_streaming import StreamUpdate, stream_event, stream_token
from lg_streaming.errors import MissingExtraError
from lg_streaming.hub import StreamHub
from lg_streaming.module import StreamingModule
from lg_streaming.observability.tracing import Tracing
from lg_streaming.publisher import Scope, UpdateRequest
from tests.capture.graphs import Input, State, Update, graph_of, model, read

INPUT: Input = {"topic": "rivers"}


class OddError(Exception):
    pass


class Spans:
    """The exported spans, and the provider that exports them."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("the application")

    @property
    def ended(self) -> Sequence[ReadableSpan]:
        return self._exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.ended if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span

    @property
    def run(self) -> ReadableSpan:
        return self.one("lg_streaming.run")

    def node(self, name: str) -> ReadableSpan:
        return self.one(f"lg_streaming.node {name}")


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
async def streaming(spans: Spans) -> AsyncGenerator[StreamingModule]:
    async with StreamingModule(tracing=spans.provider) as module:
        yield module


def attribute(span: ReadableSpan, name: str) -> Any:
    return (span.attributes or {}).get(f"lg_streaming.{name}")


def context(span: ReadableSpan) -> SpanContext:
    assert span.context is not None
    return span.context


def is_child(span: ReadableSpan, parent: ReadableSpan) -> bool:
    return span.parent is not None and span.parent.span_id == context(parent).span_id


def named_by(update: StreamUpdate) -> tuple[int, int]:
    """The trace and the span that the official propagator reads out of an update."""
    assert update.metadata.traceparent is not None
    carrier = {"traceparent": update.metadata.traceparent}
    found = trace.get_current_span(TraceContextTextMapPropagator().extract(carrier)).get_span_context()
    return found.trace_id, found.span_id


def ids(span: ReadableSpan) -> tuple[int, int]:
    return context(span).trace_id, context(span).span_id


@stream_token
async def plan(state: State) -> Update:
    await model("A plan.").ainvoke("plan")
    return {"text": "planned"}


@stream_event
def write(state: State) -> Update:
    return {"text": "written"}


async def test_a_run_and_its_nodes_become_spans_that_readers_can_link_to(
    streaming: StreamingModule, spans: Spans
) -> None:
    with spans.tracer.start_as_current_span("POST /ask"):
        await graph_of(plan, write).ainvoke(INPUT, streaming.config(execution_id="e", owner="alice"))
    run, request = spans.run, spans.one("POST /ask")
    assert is_child(run, request)
    assert attribute(run, "execution_id") == "e"
    assert attribute(run, "outcome") == "completed"
    assert run.status.status_code is StatusCode.UNSET
    for name in ("plan", "write"):
        node = spans.node(name)
        assert is_child(node, run)
        assert attribute(node, "node_id") == name
        assert attribute(node, "attempt") == 1
        assert attribute(node, "outcome") == "completed"
    assert "alice" not in "".join(span.to_json() for span in spans.ended)

    updates = await read(streaming, "e")
    assert attribute(run, "run_id") == updates.updates[0].metadata.run_id
    assert named_by(updates.one("workflow_start")) == ids(run)
    assert [named_by(start) for start in updates.of("node_start")] == [
        ids(spans.node("plan")),
        ids(spans.node("write")),
    ]
    others = [update for update in updates.updates if update.type not in {"workflow_start", "node_start"}]
    assert not [update for update in others if update.metadata.traceparent is not None]


async def test_code_inside_a_node_has_its_span_as_the_current_one(streaming: StreamingModule, spans: Spans) -> None:
    @stream_token
    async def look_up(topic: str) -> str:
        with spans.tracer.start_as_current_span("SELECT"):
            return topic

    @stream_event
    async def outer(state: State) -> Update:
        return {"text": await look_up("rivers")}

    @stream_event
    def in_a_thread(state: State) -> Update:
        with spans.tracer.start_as_current_span("GET"):
            return {}

    await graph_of(outer, in_a_thread).ainvoke(INPUT, streaming.config(execution_id="e"))
    assert is_child(spans.one("GET"), spans.node("in_a_thread"))
    assert is_child(spans.one("SELECT"), spans.node("look_up"))
    assert is_child(spans.node("look_up"), spans.node("outer"))
    assert is_child(spans.node("outer"), spans.run)


async def test_after_a_node_what_was_current_before_is_so_again(streaming: StreamingModule, spans: Spans) -> None:
    @stream_token
    async def look_up() -> None:
        assert trace.get_current_span().get_span_context().is_valid

    async with streaming.execution("e"):
        await look_up()
        assert not trace.get_current_span().get_span_context().is_valid
        with spans.tracer.start_as_current_span("mine") as mine:
            await look_up()
            assert trace.get_current_span() is mine


async def test_a_failing_node_and_its_run_say_what_went_wrong(streaming: StreamingModule, spans: Spans) -> None:
    @stream_event
    async def node(state: State) -> Update:
        raise OddError("no luck")

    with pytest.raises(OddError):
        await graph_of(node).ainvoke(INPUT, streaming.config(execution_id="e"))
    for span in (spans.node("node"), spans.run):
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "no luck")
        assert attribute(span, "outcome") == "failed"
        assert (span.attributes or {})["error.type"] == "OddError"
        (event,) = span.events
        assert event.name == "exception"
        assert dict(event.attributes or {}) == {"exception.type": "OddError", "exception.message": "no luck"}


async def test_an_error_is_redacted_before_it_is_recorded(spans: Spans) -> None:
    def redact(type: str, data: Any) -> Any:
        return {**data, "error": {"message": "***"}} if "error" in data else data

    @stream_event
    async def node(state: State) -> Update:
        raise OddError("the password is 1234")

    async with StreamingModule(tracing=spans.provider, redact=redact) as streaming:
        with pytest.raises(OddError):
            await graph_of(node).ainvoke(INPUT, streaming.config(execution_id="e"))
    assert spans.node("node").status.description == "***"
    assert "1234" not in "".join(span.to_json() for span in spans.ended)


async def test_each_try_of_a_node_is_a_span(streaming: StreamingModule, spans: Spans) -> None:
    tries: list[int] = []

    @stream_event
    async def node(state: State) -> Update:
        tries.append(len(tries) + 1)
        if len(tries) < 3:
            raise OddError("not yet")
        return {}

    builder: Any = StateGraph(State)
    again = RetryPolicy(initial_interval=0.001, jitter=False, retry_on=OddError)
    builder.add_node("node", node, retry_policy=again).set_entry_point("node")
    await builder.compile().ainvoke(INPUT, streaming.config(execution_id="e"))
    nodes = spans.named("lg_streaming.node node")
    assert [(attribute(each, "attempt"), attribute(each, "outcome")) for each in nodes] == [
        (1, "failed"),
        (2, "failed"),
        (3, "completed"),
    ]
    assert all(is_child(each, spans.run) for each in nodes)
    assert spans.run.status.status_code is StatusCode.UNSET


async def test_an_interrupt_and_what_resumes_it_are_one_run(streaming: StreamingModule, spans: Spans) -> None:
    @stream_event
    async def ask(state: State) -> Update:
        return {"text": interrupt("may I?")}

    graph = graph_of(ask, checkpointer=InMemorySaver())
    config = streaming.config({"configurable": {"thread_id": "t"}}, execution_id="e")
    await graph.ainvoke(INPUT, config)
    assert attribute(spans.node("ask"), "outcome") == "interrupted"
    assert not spans.named("lg_streaming.run"), "a run that waits for a human is not over"
    await graph.ainvoke(Command(resume="yes"), config)
    assert [attribute(each, "outcome") for each in spans.named("lg_streaming.node ask")] == ["interrupted", "completed"]
    assert [event.name for event in spans.run.events] == ["interrupted"]
    assert attribute(spans.run, "outcome") == "completed"
    assert len({context(span).trace_id for span in spans.ended}) == 1


async def test_a_cancelled_run_ends_the_nodes_that_are_still_running(streaming: StreamingModule, spans: Spans) -> None:
    @stream_event
    async def node(state: State) -> Update:
        await streaming.hub.cancel("e")
        await asyncio.Event().wait()
        return {}

    with pytest.raises(asyncio.CancelledError):
        await graph_of(node).ainvoke(INPUT, streaming.config(execution_id="e"))
    assert attribute(spans.run, "outcome") == "cancelled"
    assert attribute(spans.node("node"), "outcome") == "cancelled"


def traced_hub(spans: Spans, **options: Any) -> tuple[StreamHub, Tracing]:
    hub = StreamHub()
    tracing = Tracing(spans.provider, **options)
    hub.publisher.trace = tracing
    return hub, tracing


async def test_runs_that_never_end_are_forgotten_and_the_last_are_ended_with_the_hub(spans: Spans) -> None:
    hub, tracing = traced_hub(spans, max_runs=3)
    for number in range(10):
        hub.open(f"e{number}")
        hub.publish(f"e{number}", "node_start", {}, scope=Scope(node_id="n"))
    assert tracing.open_runs == 3
    assert [attribute(span, "execution_id") for span in spans.named("lg_streaming.run")] == [f"e{n}" for n in range(7)]
    await hub.close("e0")  # its span has ended already
    await hub.aclose()
    await hub.aclose()
    assert tracing.open_runs == 0
    assert {attribute(span, "outcome") for span in spans.ended} == {"unfinished"}
    assert (len(spans.named("lg_streaming.run")), len(spans.named("lg_streaming.node n"))) == (10, 10)


async def test_nodes_that_never_end_are_forgotten(spans: Spans) -> None:
    hub, _ = traced_hub(spans)
    hub.open("e")
    hub.publisher.publish_all(
        "e", [UpdateRequest("node_start", {}, Scope(node_id="n", attempt=number)) for number in range(1_005)]
    )
    assert [attribute(span, "attempt") for span in spans.ended] == [0, 1, 2, 3, 4]
    await hub.aclose()
    assert len(spans.named("lg_streaming.node n")) == 1_005


async def test_a_node_of_no_run_that_is_open_has_no_span(spans: Spans) -> None:
    hub, _ = traced_hub(spans)
    run_id = hub.open("e")
    await hub.close("e")
    hub.publish("e", "node_start", {}, scope=Scope(node_id="late", run_id=run_id))
    await hub.aclose()
    assert [span.name for span in spans.ended] == ["lg_streaming.run"]


async def test_a_processor_that_raises_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            raise OddError("on_start")

    provider = TracerProvider()
    provider.add_span_processor(Broken())
    async with StreamingModule(tracing=provider) as streaming:
        result = await graph_of(write).ainvoke(INPUT, streaming.config(execution_id="e"))
        assert result["text"] == "written"
        assert (await read(streaming, "e")).final == "workflow_complete"
    assert "could not be traced" in caplog.text


async def test_without_anything_that_makes_spans_updates_name_none() -> None:
    async with StreamingModule(tracing=True) as streaming:
        await graph_of(write).ainvoke(INPUT, streaming.config(execution_id="e"))
        updates = await read(streaming, "e")
    assert updates.final == "workflow_complete"
    assert not [update for update in updates.updates if update.metadata.traceparent]


async def test_tracing_is_off_unless_it_is_asked_for() -> None:
    async with StreamingModule() as streaming:
        assert streaming.hub.publisher.trace is None


def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.context", None)
    monkeypatch.delitem(sys.modules, "lg_streaming.observability.tracing")
    with pytest.raises(MissingExtraError, match=re.escape("pip install 'lg-streaming[tracing]'")):
        StreamingModule(tracing=True)
