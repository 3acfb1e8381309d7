"""Each part of a hub works alone, constructed with the parts below it."""

import ast
import asyncio
import inspect
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

import lg_streaming.hub
from lg_streaming.emitter import Emitter
from lg_streaming.errors import ExecutionLimitError, HubClosedError, PromptError
from lg_streaming.hub import StreamHub
from lg_streaming.hub.attachments import SinkManager
from lg_streaming.hub.callbacks import CallbackRunner
from lg_streaming.hub.cancellation import RunCanceller
from lg_streaming.hub.lifespan import HubLifespan
from lg_streaming.hub.metrics import HubMetrics
from lg_streaming.hub.prompts import PromptManager
from lg_streaming.hub.publisher import HubPublisher
from lg_streaming.hub.readers import SubscriptionRegistry
from lg_streaming.hub.registry import ExecutionRegistry
from lg_streaming.hub.run_listeners import RunListeners
from lg_streaming.hub.runs import RunManager
from lg_streaming.hub.statistics import Counters
from lg_streaming.hub.writer import UpdateWriter
from lg_streaming.log.memory import MemoryLog
from lg_streaming.prompts import Prompt
from lg_streaming.publisher import NO_SCOPE, RunOutcome, publishers
from lg_streaming.sinks import QueueSink
from tests.hub.helpers import collect, settings_of, soon, types


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def registry_with(log: MemoryLog, *, monotonic: Any = time.monotonic, **settings: float) -> ExecutionRegistry:
    return ExecutionRegistry(settings_of(**settings), log, clock=time.time, monotonic=monotonic)


def writer_to(log: MemoryLog) -> UpdateWriter:
    return UpdateWriter(settings_of(), log, Counters(), redact=None, clock=time.time, monotonic=time.monotonic)


def runs_on(log: MemoryLog, **settings: float) -> RunManager:
    return RunManager(registry_with(log, **settings), writer_to(log))


async def types_in(log: MemoryLog, execution_id: str = "e") -> list[str]:
    found = await log.read(execution_id, 0, 100)
    return [] if found is None else [record.type for record in found.records]


def test_the_registry_creates_finds_and_forgets() -> None:
    clock = Clock()
    registry = registry_with(MemoryLog(monotonic=clock), monotonic=clock, ttl=10.0)
    execution = registry.get_or_create("e")
    assert registry.get_or_create("e") is execution
    assert not registry.is_running("e")
    clock.now = 9.0
    registry.sweep()
    assert registry.executions == {"e": execution}
    clock.now = 11.0
    registry.sweep()
    assert registry.executions == {}


def test_the_registry_keeps_an_execution_with_an_open_run() -> None:
    clock = Clock()
    registry = registry_with(MemoryLog(monotonic=clock), monotonic=clock, ttl=10.0)
    registry.get_or_create("e").begin("run", {}, 0.0)
    clock.now = 100.0
    registry.sweep()
    assert registry.is_running("e")


async def test_the_writer_encodes_and_appends() -> None:
    log = MemoryLog()
    writer = writer_to(log)
    execution = registry_with(log).get_or_create("e")
    writer.append(execution, writer.encoder.encode(execution, "note", {"n": 1}, NO_SCOPE, None))
    await writer.flush()
    assert await types_in(log) == ["note"]
    assert writer.counters.published["event"] == 1


async def test_runs_open_join_and_end() -> None:
    log = MemoryLog()
    runs = runs_on(log, max_executions=1)
    run_id = runs.open("e")
    assert runs.join_run("e") == runs.current_run_id("e") == run_id
    with pytest.raises(ExecutionLimitError):
        runs.open("other")
    runs.leave_run("e", run_id, RunOutcome("workflow_complete", {}))
    assert runs.current_run_id("e") is None
    assert await types_in(log) == ["workflow_start", "workflow_complete"]
    runs.close()


async def test_runs_notify_listeners_before_and_after_an_end() -> None:
    log = MemoryLog()
    runs = runs_on(log)
    calls: list[tuple[str, str | None]] = []

    class Listener:
        def flush_execution(self, execution_id: str) -> None:
            calls.append(("flush", runs.current_run_id(execution_id)))

        def close_execution(self, execution_id: str) -> None:
            calls.append(("close", runs.current_run_id(execution_id)))

        def sweep(self) -> None:
            calls.append(("sweep", None))

        def close(self) -> None:
            calls.append(("close all", None))

    runs.run_listeners.add(Listener())
    run_id = runs.join_run("e")
    runs.leave_run("e", run_id, RunOutcome("workflow_complete", {}))
    runs.registry.sweep()
    runs.run_listeners.close()
    assert calls == [("flush", run_id), ("close", None), ("sweep", None), ("close all", None)]
    runs.close()


def test_listeners_are_called_in_their_order() -> None:
    calls: list[str] = []

    class Listener:
        def __init__(self, name: str) -> None:
            self.name = name

        def flush_execution(self, execution_id: str) -> None:
            calls.append(f"{self.name} {execution_id}")

        def close_execution(self, execution_id: str) -> None: ...
        def sweep(self) -> None: ...
        def close(self) -> None: ...

    listeners = RunListeners()
    listeners.flush_execution("e")
    listeners.add(Listener("first"))
    listeners.add(Listener("second"))
    listeners.flush_execution("e")
    assert calls == ["first e", "second e"]


async def test_cancelling_calls_a_handler_or_ends_the_run() -> None:
    log = MemoryLog()
    runs = runs_on(log)
    canceller, reasons = RunCanceller(runs, CallbackRunner()), list[str | None]()
    runs.open("e")
    assert await canceller.cancel("e", "enough")
    assert not await canceller.cancel("e")
    assert await types_in(log) == ["workflow_start", "workflow_cancelled"]
    runs.open("handled")
    remove = canceller.on_cancel("handled", reasons.append)
    assert await canceller.cancel("handled", "please")
    assert (reasons, runs.registry.is_running("handled")) == (["please"], True)
    remove()
    await canceller.cancel("handled")
    assert not runs.registry.is_running("handled")
    runs.close()


async def test_prompts_are_answered_once() -> None:
    log = MemoryLog()
    runs = runs_on(log)
    prompts, answers = PromptManager(runs.registry, runs.writer, CallbackRunner()), list[tuple[str, object]]()
    publisher = HubPublisher(runs)
    prompts.on_response("e", lambda prompt_id, answer: answers.append((prompt_id, answer)))
    publisher.publish("e", "human_prompt", {"prompt_id": "p"})
    await prompts.respond("e", "p", 7)
    with pytest.raises(PromptError):
        await prompts.respond("e", "p", 8)
    assert answers == [("p", 7)]
    assert (await types_in(log))[-1] == "human_response"
    runs.close()


async def test_a_handler_of_answers_stays_when_others_are_removed() -> None:
    runs = runs_on(MemoryLog())
    callbacks, taken = CallbackRunner(), list[object]()
    prompts, canceller = PromptManager(runs.registry, runs.writer, callbacks), RunCanceller(runs, callbacks)
    runs.on_interrupt = prompts.watch
    stop_cancel = canceller.on_cancel("e", lambda reason: None)
    stop_responses = prompts.on_response("e", lambda prompt_id, answer: None)
    stop_answers = prompts.on_answers("e", lambda _execution_id, answers: taken.append(answers))
    run_id = runs.join_run("e")
    asked = [Prompt(prompt_id="p", data={"prompt_id": "p"}, kind="interrupt")]
    runs.leave_run("e", run_id, RunOutcome("workflow_interrupted", {}), prompts=asked)
    stop_cancel()
    stop_responses()
    await prompts.respond("e", "p", "yes")
    assert taken == [{"p": "yes"}]
    stop_answers()
    assert runs.registry.executions["e"].handlers is None
    runs.close()


async def test_the_publisher_publishes_and_makes_emitters() -> None:
    log = MemoryLog()
    runs = runs_on(log)
    publisher = HubPublisher(runs)
    publisher.publish("e", "note", 1)
    publisher.emit("e", "saved", category="document")
    publisher.emitter("e").event("seen")
    Emitter(publisher, "e").token("x")
    assert await types_in(log) == ["workflow_start", "note", "saved", "seen", "token"]
    publisher.configure("e", token={"enabled": False})
    assert not publisher.defaults("e").current.token.enabled
    assert publisher.defaults("other").current.token.enabled
    runs.close()


async def test_readers_need_a_log_alone() -> None:
    log = MemoryLog()
    opened: list[str] = []
    readers = SubscriptionRegistry(log, before_subscribe=lambda: opened.append("one"))
    subscription = readers.subscribe("e")
    assert (readers.open, readers.count("e"), opened) == (1, 1, ["one"])
    runs = runs_on(log)
    reading = asyncio.create_task(collect(subscription))
    await asyncio.sleep(0)
    runs.open("e")
    await runs.close_run("e")
    assert types(await soon(reading)) == ["workflow_start", "workflow_complete"]
    assert (readers.open, readers.count("e"), readers.delivered) == (0, 0, 2)
    runs.close()
    await readers.aclose()
    with pytest.raises(HubClosedError):
        readers.subscribe("e")
    readers.reopen()
    readers.subscribe("e").close()


async def test_sinks_need_readers_and_a_flush() -> None:
    log = MemoryLog()
    runs, readers = runs_on(log), SubscriptionRegistry(log)
    sinks, sink = SinkManager(readers, runs.writer.flush), QueueSink()
    attachment = sinks.attach("e", sink)
    assert (sinks.attached("e"), sinks.open) == ([attachment], 1)
    runs.open("e")
    await soon(sinks.flush("e"))
    assert attachment.delivered == 1
    assert sinks.detach("e", sink)
    await soon(attachment.wait())
    assert (sinks.by_execution, sinks.by_sink, sinks.errors) == ({}, {}, 0)
    runs.close()
    await sinks.aclose()
    await readers.aclose()


async def test_metrics_need_the_parts_that_they_count() -> None:
    log = MemoryLog()
    runs, readers = runs_on(log), SubscriptionRegistry(log)
    sinks = SinkManager(readers, runs.writer.flush)
    metrics = HubMetrics(runs.registry, runs.writer, readers, sinks)
    runs.open("e")
    with_reader = readers.subscribe("e")
    info = metrics.info("e")
    assert info is not None
    assert (info.state, info.updates, info.readers) == ("running", 1, 1)
    assert [each.execution_id for each in metrics.executions("running")] == ["e"]
    assert (metrics.health().status, metrics.health().running) == ("ok", 1)
    assert (metrics.statistics().published, metrics.statistics().subscriptions) == (1, 1)
    with_reader.close()
    runs.close()
    await sinks.aclose()
    await readers.aclose()


async def test_the_lifespan_closes_and_reopens_the_parts() -> None:
    log = MemoryLog()
    runs, readers, callbacks = runs_on(log), SubscriptionRegistry(log), CallbackRunner()
    sinks, publisher, before = SinkManager(readers, runs.writer.flush), HubPublisher(runs), publishers.count
    lifespan = HubLifespan(publisher, readers, sinks, RunCanceller(runs, callbacks), callbacks)
    assert publishers.count == before + 1
    publisher.publish("e", "note")
    reading = asyncio.create_task(collect(readers.subscribe("e")))
    await asyncio.sleep(0)
    await lifespan.shutdown("maintenance")
    assert types(await soon(reading)) == ["workflow_start", "note", "workflow_cancelled"]
    assert publishers.count == before
    with pytest.raises(HubClosedError):
        publisher.publish("e", "note")
    publishers.activate(publisher, "owner")
    lifespan.reopen()
    await lifespan.restart()
    assert publishers.owners(publisher) == ["owner"]
    publisher.publish("e", "note")
    publishers.deactivate(publisher)
    await lifespan.aclose()


# --- the face ---------------------------------------------------------------------------------------------

PARTS = {"registry", "writer", "runs", "publisher", "readers", "sinks", "prompts", "control", "metrics", "lifespan"}
FILES = {path.stem: path for path in Path(lg_streaming.hub.__file__).parent.glob("*.py")}


async def test_the_face_is_thin(hub: StreamHub) -> None:
    names = {name for name in dir(hub) if not name.startswith("_")} - PARTS - {"tokens"}
    assert len(names) <= 25, sorted(names)
    for name, method in inspect.getmembers(StreamHub, inspect.isfunction):
        if not name.startswith("_"):
            tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
            [function] = tree.body
            assert isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
            assert len(function.body) == 2, f"{name} is a docstring and one delegation"


def test_no_part_imports_the_face() -> None:
    users = [name for name, path in FILES.items() if "lg_streaming.hub.hub import" in path.read_text()]
    assert users == ["__init__"]


@pytest.mark.parametrize("option", ["fresh", "join", "name"])
async def test_the_face_takes_no_internal_options(hub: StreamHub, option: str) -> None:
    more: dict[str, Any] = {option: True}
    for call in (hub.open, hub.create):
        with pytest.raises(TypeError):
            call("e", **more)
    for publish in (hub.publish, hub.emit):
        with pytest.raises(TypeError):
            publish("e", "note", **more)
    assert hub.executions() == []
