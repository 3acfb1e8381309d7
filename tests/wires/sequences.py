"""Updates of runs that hypothesis makes up: any order that the rules of the wire allow."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from lg_streaming.codec import Codec, add_position
from lg_streaming.events import Priority, Scope
from lg_streaming.log.base import StoredUpdate
from tests.wires.recordings import EXECUTION, Recording, in_short

__all__ = ["sequences", "updates"]

EPOCH = "5e9dc0de"
_CODEC = Codec()
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | _TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "id", "__proto__"]), inner),
    max_leaves=4,
)
_INPUT = st.fixed_dictionaries({"city": _TEXT})
_ODD_TYPES = st.sampled_from(["own:type", "log", "milestone", "usage", "artifacts", "data", "error", "agent:start"])
Step = tuple[str, Any, Scope]


@dataclass
class Run:
    """The run that is made up: its updates, and the messages of its state."""

    draw: st.DrawFn
    records: list[StoredUpdate] = field(default_factory=list[StoredUpdate])
    run_id: str = ""
    ids: Iterator[int] = field(default_factory=itertools.count)
    messages: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def add(self, type: str, data: Any, scope: Scope | None = None, priority: Priority = "medium") -> None:
        scope, seq = scope or Scope(run_id=self.run_id), len(self.records) + 1
        timestamp = 1_795_000_000 + seq / 1000
        body = _CODEC.encode(EXECUTION, type, data, scope=scope, priority=priority, timestamp=timestamp)
        json_ = add_position(body, seq, EPOCH)
        self.records.append(StoredUpdate(type, scope, priority, timestamp, json_, None, seq, EPOCH))

    def state(self, source: str = "loop", *, then: str | None = None) -> None:
        number = next(self.ids)
        data: dict[str, Any] = {"values": {"messages": list(self.messages)}, "next": [then] if then else []}
        self.add("state", {**data, "checkpoint_id": f"1f{number:06d}", "source": source, "step": number})

    # ------------------------------------------------------------ parts of a run
    def model_call(self, scope: Scope, *, fails: bool) -> Iterator[Step]:
        """A model's answer: reasoning, text, calls of tools; or a failure in its middle."""
        message_id = f"lc_run--{self.run_id}-{next(self.ids)}"
        scope = scope.derive(message_id=message_id, request_id=message_id)
        yield "llm_start", {"model": "scripted"}, scope
        for index, piece in enumerate(self.draw(st.lists(_TEXT, max_size=2))):
            yield "thinking", {"content": piece, "index": index}, scope
        # Each piece names its message, which clients without ids of messages need.
        text = [f"<{message_id[-3:]}>{piece}" for piece in self.draw(st.lists(_TEXT, max_size=4))]
        for index, piece in enumerate(text):
            yield "token", {"content": piece, "index": index, "role": "ai"}, scope
        calls = [] if fails else self.draw(st.lists(_INPUT, max_size=2))
        ids = [f"call-{next(self.ids)}" for _ in calls]
        for index, (id_, value) in enumerate(zip(ids, calls, strict=True)):
            written = json.dumps(value)
            cut = self.draw(st.integers(0, len(written)))
            first = {"tool_call_id": id_, "tool": "weather", "args": "", "index": index}
            if self.draw(st.booleans()):
                yield "tool_args", {**first, "args": written}, scope
                continue
            yield "tool_args", first, scope
            for piece in filter(None, (written[:cut], written[cut:])):
                yield "tool_args", {"args": piece, "index": index}, scope
        if fails:
            yield "llm_error", {"model": "scripted", "error": {"message": "boom"}, "message_id": message_id}, scope
            return
        yield "llm_complete", {"model": "scripted", "usage": {"input_tokens": 1, "output_tokens": 2}}, scope
        made = [{"name": "weather", "args": value, "id": id_} for id_, value in zip(ids, calls, strict=True)]
        self.messages.append(
            {"type": "ai", "id": message_id, "content": "".join(text), "tool_calls": made, "invalid_tool_calls": []}
        )
        for each in made:
            yield from self.tool_call(scope.derive(message_id=None, request_id=None), each)

    def own_texts(self, scope: Scope) -> Iterator[Step]:
        """Texts that a program publishes, which mix, with the ids of their messages in the data."""
        ids = [f"own-{next(self.ids)}" for _ in range(2)]
        texts: dict[str, str] = {}
        for index, id_ in enumerate(self.draw(st.lists(st.sampled_from(ids), max_size=4))):
            piece = f"<{id_[-3:]}>{self.draw(_TEXT)}"
            texts[id_] = texts.get(id_, "") + piece
            yield "token", {"content": piece, "index": index, "message_id": id_}, scope
        self.messages += [{"type": "ai", "id": id_, "content": text, "tool_calls": []} for id_, text in texts.items()]

    def tool_call(self, scope: Scope, call: dict[str, Any]) -> Iterator[Step]:
        named = {"tool": call["name"], "tool_call_id": call["id"]}
        scope = scope.derive(tool_call_id=call["id"])
        yield "tool_start", {**named, "input": call["args"]}, scope
        fails = self.draw(st.booleans())
        output = self.draw(_TEXT)
        if fails:
            yield "tool_error", {**named, "error": {"message": output, "type": "ValueError"}}, scope
        else:
            yield "tool_complete", {**named, "output": output}, scope
        message = {"type": "tool", "id": f"t-{call['id']}", "name": call["name"], "content": output}
        status = "error" if fails else "success"
        self.messages.append({**message, "tool_call_id": call["id"], "status": status, "artifact": None})

    def visit(self, name: str, around: str | None) -> Iterator[Step]:
        """A node from its start to its end, with tries that fail, and perhaps the nodes of a subgraph."""
        namespace = f"{around}|{name}:{next(self.ids)}" if around else f"{name}:{next(self.ids)}"
        tries = self.draw(st.sampled_from([1, 1, 1, 2, 3]))
        for attempt in range(1, tries + 1):
            scope = Scope(run_id=self.run_id, node_id=name, namespace=namespace, attempt=attempt)
            node = {"node_id": name, "node_name": name, "attempt": attempt}
            yield "node_start", node, scope
            if attempt < tries:
                yield from self.model_call(scope, fails=True)
                yield "node_error", {**node, "error": {"message": "boom"}, "will_retry": True}, scope
                continue
            for _ in range(self.draw(st.integers(0, 2))):
                kind = self.draw(st.sampled_from(["model", "model", "own", "custom", "odd", "inner"]))
                if kind == "model":
                    yield from self.model_call(scope, fails=self.draw(st.sampled_from([False, False, True])))
                elif kind == "own":
                    yield from self.own_texts(scope)
                elif kind == "custom":
                    yield (
                        "custom",
                        {"name": self.draw(st.sampled_from(["weather", "a b", ""])), "data": self.draw(_JSON)},
                        scope,
                    )
                elif kind == "odd":
                    yield self.draw(_ODD_TYPES), self.draw(_JSON), scope
                elif around is None:
                    yield from self.visit("inner", namespace)
            yield "node_complete", {**node, "result": None, "duration_s": 0.1}, scope

    def step(self) -> None:
        """Nodes that work at once, mixed in any order."""
        names = self.draw(st.lists(st.sampled_from(["write", "plan"]), min_size=1, max_size=3))
        branches = [self.visit(name, None) for name in names]
        while branches:
            branch = self.draw(st.sampled_from(branches))
            update = next(branch, None)
            if update is None:
                branches.remove(branch)
            else:
                self.add(*update)

    def wait_for_human(self) -> None:
        """Stop at a question, and go on after its answer."""
        name, id_ = "ask", f"prompt{next(self.ids)}"
        namespace = f"{name}:{next(self.ids)}"
        scope = Scope(run_id=self.run_id, node_id=name, namespace=namespace, attempt=1)
        node = {"node_id": name, "node_name": name}
        interrupts = [{"id": id_, "value": "Go on?", "namespace": namespace}]
        prompt = {"prompt_id": id_, "prompt": "Go on?", "type": "input", "value": "Go on?", "namespace": namespace}
        self.add("node_start", {**node, "attempt": 1}, scope)
        self.add("node_interrupted", {**node, "interrupts": interrupts}, scope)
        self.add("human_prompt", prompt, scope.derive(attempt=None))
        self.add("workflow_interrupted", {"interrupts": interrupts, "prompts": [prompt]})

    def go_on(self) -> None:
        interrupted = json.loads(self.records[-1].json)["data"]["prompts"][0]
        scope = Scope(run_id=self.run_id, node_id="ask", namespace=interrupted["namespace"])
        self.add("human_response", {"prompt_id": interrupted["prompt_id"], "response": "yes"}, scope)
        self.add("status", {"status": "resumed"})
        self.add("status", {"status": "running"})
        self.state(then="ask")
        node = {"node_id": "ask", "node_name": "ask", "attempt": 2}
        self.add("node_start", node, scope.derive(attempt=2))
        self.add("node_complete", {**node, "result": None}, scope.derive(attempt=2))

    def whole(self, run_id: str) -> None:
        """A run from its start to its end, or to where it waits."""
        self.run_id = run_id
        self.add("workflow_start", {"run_id": run_id, "name": "chat"})
        self.add("status", {"status": "running"})
        self.messages.append({"type": "human", "id": f"u-{run_id}", "content": "Weather?"})
        self.state("input", then="write")
        for _ in range(self.draw(st.integers(0, 3))):
            self.step()
            self.state(then="write")
            if self.draw(st.sampled_from([False, False, True])):
                self.wait_for_human()
                if self.draw(st.sampled_from([False, True, True])):
                    self.go_on()
                    self.state(then="write")
                else:
                    return
        self.finish()

    def finish(self) -> None:
        end = self.draw(st.sampled_from(["complete", "complete", "error", "cancelled", "abandoned"]))
        data: dict[str, Any] = {"result": None}
        if end == "complete":
            self.state()
        elif end == "error":
            data = {"error": {"message": "boom", "type": "ValueError"}}
        elif end == "cancelled":
            data = {"reason": "enough"}
        elif end == "abandoned":
            data = {"reason": "idle_timeout", "idle_s": 1.0}
        self.add(f"workflow_{end}", data)


@st.composite
def sequences(draw: st.DrawFn) -> Recording:
    """The updates of an execution with one or two runs; a run that waits is the last."""
    run = Run(draw)
    run.whole("r-1")
    if run.records[-1].type != "workflow_interrupted" and draw(st.booleans()):
        run.whole("r-2")
    return Recording("made up", run.records)


class Updates(list[StoredUpdate]):
    """The updates of an execution, which hypothesis prints in short."""

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(f"<{in_short(self)}>")


def updates() -> st.SearchStrategy[Updates]:
    """The updates of `sequences` alone."""
    return sequences().map(lambda made: Updates(made.records))
