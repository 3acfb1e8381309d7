"""Recordings of real runs of graphs of eleven shapes, in virtual time, and errors of percentages on them."""

import asyncio
import logging
import math
import operator
import random
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from statistics import median
from typing import Annotated, Any, Literal, cast

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, RetryPolicy, Send, interrupt
from typing_extensions import TypedDict

from lg_streaming.capture import CallOptions, Ending, graph_config
from lg_streaming.hub import StreamHub
from lg_streaming.runs.estimate import RunEstimate
from lg_streaming.runs.history import RunTrace
from lg_streaming.runs.structure import GraphStructure
from tests.runs.virtual_time import run_in_virtual_time

EARLIER = 8
"""Runs to learn from."""
SEEDS = range(100, 110)
STEPS = 100
"""Points of a recording at which the percentage is compared."""


Event = tuple[float, str, tuple[Any, ...]]
"""Time, method of `RunEstimate`, arguments."""


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]
    rounds: int


@dataclass
class Recorder:
    """Events of one run, with their times. An observer of the nodes of the graph's calls."""

    events: list[Event] = field(default_factory=list[Any])
    names: dict[str, str] = field(default_factory=dict[str, str])

    def node_started(self, node: str, namespace: str, *, in_node: str | None) -> None:
        self.names[node] = namespace
        self._note("start", namespace, node, in_node)

    def node_ended(self, namespace: str, ending: Ending) -> None:
        self._note("end", namespace, ending)

    def live(self, node: str, percent: float) -> None:
        self._note("progress", self.names[node], percent)

    def finish(self) -> None:
        self._note("finish")

    def _note(self, kind: str, *arguments: Any) -> None:
        self.events.append((asyncio.get_running_loop().time(), kind, arguments))


@dataclass
class Script:
    """Durations of one run."""

    seed: str
    recorder: Recorder
    chance: random.Random = field(init=False)
    chances: dict[str, random.Random] = field(default_factory=dict[str, random.Random])

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    def noisy(self, name: str, seconds: float, spread: float = 0.3) -> float:
        """A duration that does not depend on the order in which parallel nodes begin."""
        chance = self.chances.setdefault(name, random.Random(f"{self.seed} {name}"))
        return seconds * math.exp(chance.gauss(0.0, spread))

    async def work(self, name: str, seconds: float, spread: float = 0.3) -> None:
        await asyncio.sleep(self.noisy(name, seconds, spread))

    def node(self, name: str, seconds: float) -> Any:
        async def node(state: State) -> State:
            await self.work(name, seconds)
            return {"log": [name]}

        return node


Builder = Any


def _graph(script: Script, **nodes: float) -> Builder:
    builder = StateGraph(State)
    for name, seconds in nodes.items():
        builder.add_node(name, script.node(name, seconds))
    return builder


def _chain(builder: Builder, *names: str) -> Builder:
    for before, after in zip((START, *names), (*names, END), strict=True):
        builder.add_edge(before, after)
    return builder


def linear(script: Script) -> Builder:
    """Five nodes of different durations."""
    return _chain(
        _graph(script, plan=1, search=8, read=2, write=30, check=4), "plan", "search", "read", "write", "check"
    )


def branch(script: Script) -> Builder:
    """A quick answer, or a thorough one."""
    builder = _graph(script, classify=3, quick=2, thorough=40, answer=6)
    chosen = "quick" if script.chance.random() < 0.6 else "thorough"

    async def route(state: State) -> Literal["quick", "thorough"]:
        return chosen

    builder.add_edge(START, "classify").add_conditional_edges("classify", route)
    return builder.add_edge("quick", "answer").add_edge("thorough", "answer").add_edge("answer", END)


def loop(script: Script) -> Builder:
    """One to four rounds of drafts and reviews."""
    builder = _graph(script, outline=4, draft=10, review=3, publish=8)
    rounds = script.chance.choice([1, 2, 2, 3, 3, 4])

    async def route(state: State) -> Literal["draft", "publish"]:
        return "publish" if state.get("log", []).count("review") >= rounds else "draft"

    builder.add_edge(START, "outline").add_edge("outline", "draft").add_edge("draft", "review")
    return builder.add_conditional_edges("review", route).add_edge("publish", END)


def agent(script: Script) -> Builder:
    """A model that calls tools, up to six times."""
    builder = _graph(script, model=4, tools=7)
    rounds = script.chance.choice([1, 2, 2, 2, 3, 3, 4, 6])

    async def route(state: State) -> Literal["tools", "__end__"]:
        return "__end__" if state.get("log", []).count("model") > rounds else "tools"

    builder.add_edge(START, "model").add_conditional_edges("model", route)
    return builder.add_edge("tools", "model")


def send(script: Script) -> Builder:
    """A fan-out over three to eight documents."""
    builder = _graph(script, split=2, worker=9, join=12)
    count = script.chance.randint(3, 8)

    async def fan_out(state: State) -> list[Send]:
        return [Send("worker", {}) for _ in range(count)]

    builder.add_edge(START, "split").add_conditional_edges("split", fan_out, ["worker"])
    return builder.add_edge("worker", "join").add_edge("join", END)


def fan_in(script: Script) -> Builder:
    """Three parallel nodes, then two more."""
    builder = _graph(script, start=2, short=5, long=20, middle=12, merge=6, write=15)
    builder.add_edge(START, "start")
    for name in ("short", "long", "middle"):
        builder.add_edge("start", name)
    return builder.add_edge(["short", "long", "middle"], "merge").add_edge("merge", "write").add_edge("write", END)


def human(script: Script) -> Builder:
    """A question to a human, who takes minutes."""
    builder = _graph(script, prepare=6, act=20)

    async def ask(state: State) -> State:
        await script.work("ask", 1)
        interrupt("go on?")
        await script.work("ask", 5)
        return {"log": ["ask"]}

    return _chain(builder.add_node("ask", ask), "prepare", "ask", "act")


def retry(script: Script) -> Builder:
    """A node that fails at first in every second run."""
    builder = _graph(script, prepare=4, report=10)
    fails = [script.chance.random() < 0.5]

    async def flaky(state: State) -> State:
        if fails.pop() if fails else False:
            await script.work("flaky", 6)
            raise ConnectionError
        await script.work("flaky", 15)
        return {"log": ["flaky"]}

    builder.add_node("flaky", flaky, retry_policy=RetryPolicy(initial_interval=2.0, jitter=False))
    return _chain(builder, "prepare", "flaky", "report")


def subgraph(script: Script) -> Builder:
    """A subgraph of three nodes as one node."""
    inner = _chain(_graph(script, find=6, rank=2, sum_up=12), "find", "rank", "sum_up").compile()
    builder = _graph(script, prepare=3, finish=9)
    return _chain(builder.add_node("research", inner), "prepare", "research", "finish")


def long_tail(script: Script) -> Builder:
    """A node that takes 5 to 200 seconds, and reports its progress."""
    builder = _graph(script, load=3, done=2)
    seconds = 5.0 * 40.0 ** script.chance.random()

    async def index(state: State) -> State:
        for percent in range(2, 101, 2):
            await script.work("index", seconds / 50, 0.5)
            script.recorder.live("index", percent)
        return {"log": ["index"]}

    return _chain(builder.add_node("index", index), "load", "index", "done")


def functional(script: Script) -> Any:
    """An entrypoint with five tasks, two of them parallel."""

    @task
    async def fetch(page: int) -> int:
        await script.work("fetch", 6)
        return page

    @task
    async def summarize(page: int) -> int:
        await script.work("summarize", 14)
        return page

    @task
    async def publish() -> None:
        await script.work("publish", 5)

    @entrypoint()
    async def flow(state: State) -> State:
        await fetch(1)
        await fetch(2)
        await asyncio.gather(summarize(1), summarize(2))
        await publish()
        return {"log": ["flow"]}

    return cast("Any", flow)


SHAPES: Sequence[Callable[[Script], Any]] = (
    linear,
    branch,
    loop,
    agent,
    send,
    fan_in,
    human,
    retry,
    subgraph,
    long_tail,
    functional,
)


@dataclass(frozen=True)
class Recording:
    """One run."""

    structure: GraphStructure
    events: list[Event]

    @property
    def end(self) -> float:
        return self.events[-1][0]


async def _record(shape: Callable[[Script], Any], seed: str) -> Recording:
    recorder = Recorder()
    script = Script(seed, recorder)
    made = shape(script)
    is_flow = shape is functional
    graph: Any = made if is_flow else made.compile(checkpointer=InMemorySaver())
    hub = StreamHub()
    config = graph_config(None, hub.publisher, CallOptions(execution_id="e", observer=recorder))
    try:
        step: Any = {"log": []}
        while True:
            await graph.ainvoke(step, config)
            if is_flow or not (await graph.aget_state(config)).interrupts:
                break
            await asyncio.sleep(script.noisy("human", 300.0))
            step = Command(resume="yes")
        recorder.finish()
    finally:
        await hub.aclose()
    return Recording(GraphStructure.of(graph), recorder.events)


@cache
def record(shape: Callable[[Script], Any], seed: int) -> Recording:
    """Run a graph of a shape."""
    return run_in_virtual_time(_record(shape, f"{shape.__name__} {seed}"))


def replay(recording: Recording, estimate: RunEstimate, until: float = math.inf) -> RunTrace | None:
    """Pass the events of a recording to an estimate; return the trace of the run."""
    trace = None
    for at, kind, arguments in recording.events:
        if at > until:
            break
        if kind == "start":
            estimate.start(arguments[0], arguments[1], at, in_node=arguments[2])
        elif kind == "end":
            estimate.end(arguments[0], arguments[1], at)
        elif kind == "progress":
            estimate.progress(arguments[0], arguments[1], at)
        else:
            trace = estimate.finish(at)
    return trace


def percentages(recording: Recording, traces: Sequence[RunTrace], moments: Sequence[float]) -> list[float]:
    """Percentages of an estimate at rising moments before the end."""
    estimate, found, left = RunEstimate(recording.structure, traces), list[float](), list(recording.events)
    for moment in moments:
        while left and left[0][0] <= moment:
            replay(Recording(recording.structure, [left.pop(0)]), estimate)
        found.append(estimate.figures(moment).progress)
    return found


def counted(recording: Recording, usual: int, moments: Sequence[float]) -> list[float]:
    """Percentages of finished nodes, of those in the graph; for an entrypoint of its tasks in the last run."""
    functional = recording.structure.is_functional
    known = usual if functional else len(recording.structure.nodes)
    begun, ended, left, most, found = set[str](), set[str](), list(recording.events), 0.0, list[float]()
    for moment in moments:
        while left and left[0][0] <= moment:
            _, kind, arguments = left.pop(0)
            if kind == "start" and (arguments[2] is not None) == functional:
                begun.add(arguments[0])
            elif kind == "end" and arguments[1] == "complete" and arguments[0] in begun:
                ended.add(arguments[0])
        most = max(most, 100.0 * len(ended) / max(known, len(begun)))
        found.append(most)
    return found


def worked(recording: Recording) -> list[tuple[float, float]]:
    """Times of events, and the seconds of work until then: those in which a node runs."""
    running, before, total, found = set[str](), 0.0, 0.0, [(0.0, 0.0)]
    for at, kind, arguments in recording.events:
        total += at - before if running else 0.0
        before = at
        found.append((at, total))
        if kind == "start":
            running.add(arguments[0])
        elif kind == "end":
            running.discard(arguments[0])
    return found


def truth(recording: Recording) -> tuple[list[float], list[float]]:
    """Moments at equal distances of working time, and the percentage of it that has passed."""
    found = worked(recording)
    total = found[-1][1]
    shares = [n / STEPS for n in range(1, STEPS)]
    moments = list[float]()
    for share in shares:
        index = bisect_right(found, share * total, key=lambda each: each[1])
        (at, done), (later, more) = found[index - 1], found[index]
        moments.append(at + (share * total - done) * (later - at) / (more - done))
    return moments, [100.0 * share for share in shares]


def traces_of(shape: Callable[[Script], Any], runs: int) -> list[RunTrace]:
    """Traces of earlier runs."""
    found = [replay(record(shape, seed), RunEstimate(record(shape, seed).structure)) for seed in range(runs)]
    return [each for each in found if each is not None]


def errors(shape: Callable[[Script], Any], runs: int, seeds: Sequence[int] = SEEDS) -> tuple[list[float], list[float]]:
    """Absolute errors of the estimate after earlier runs, and of counting nodes, in percentage points."""
    ours, plain, traces = list[float](), list[float](), traces_of(shape, runs)
    usual = record(shape, 0)
    tasks = sum(kind == "start" and each[2] is not None for _, kind, each in usual.events)
    for seed in seeds:
        recording = record(shape, seed)
        moments, true = truth(recording)
        ours += [abs(a - b) for a, b in zip(percentages(recording, traces, moments), true, strict=True)]
        plain += [abs(a - b) for a, b in zip(counted(recording, tasks, moments), true, strict=True)]
    return ours, plain


def table() -> str:
    """The median error of each shape, as on the page about the progress of runs."""
    rows = list[str]()
    columns: list[list[float]] = [[], [], []]
    for shape in SHAPES:
        (one, plain), (eight, _) = errors(shape, 1), errors(shape, EARLIER)
        for column, found in zip(columns, (plain, one, eight), strict=True):
            column.extend(found)
        rows.append(_row((shape.__doc__ or "").rstrip("."), plain, one, eight))
    rows.append(_row("All together", *columns))
    head = f"| graph | finished nodes | after one run | after {EARLIER} runs |\n|---|---|---|---|"
    return "\n".join([head, *rows])


def _row(name: str, *each: list[float]) -> str:
    return f"| {name} | {' | '.join(f'{median(found):.1f}' for found in each)} |"


if __name__ == "__main__":
    logging.disable()  # that no node is captured
    print(table())
