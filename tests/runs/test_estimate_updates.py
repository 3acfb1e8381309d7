"""`workflow_progress` of real runs: when it is published, and its fields."""

import asyncio
import operator
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Annotated, Any, cast

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, RetryPolicy, Send, interrupt
from typing_extensions import TypedDict

from lg_streaming import StreamingModule, current_progress, stream_all, stream_event, stream_progress
from lg_streaming.capture import CallOptions, NodeObserver, graph_config
from lg_streaming.hub import StreamHub
from lg_streaming.publisher import RunOutcome
from lg_streaming.runs.history import RunHistory
from lg_streaming.runs.progress import RunProgress
from lg_streaming.testing import ScriptedChatModel
from tests.hub.helpers import collect, until
from tests.runs.graphs import Gate, asking, gated
from tests.runs.virtual_time import run_in_virtual_time
from tests.support.memory_fleet import Network


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]


def line(*nodes: Any, **compile_options: Any) -> Any:
    """A graph of these nodes, one after another."""
    builder = cast("Any", StateGraph(State))
    names = [node.__name__ for node in nodes]
    for node in nodes:
        builder.add_node(node.__name__, node)
    for before, after in zip([START, *names], [*names, END], strict=True):
        builder.add_edge(before, after)
    return builder.compile(**compile_options)


def sleeper(name: str, seconds: float) -> Any:
    async def node(state: State) -> State:
        await asyncio.sleep(seconds)
        return {"log": [name]}

    node.__name__ = name
    return node


class Site:
    """One hub, and the history of its graphs."""

    def __init__(self) -> None:
        self.module = StreamingModule()
        self.hub: StreamHub = self.module.hub
        self.history = RunHistory(self.hub.log.fleet)

    async def run(self, graph: Any, execution_id: str = "e", *, fails: bool = False, **options: Any) -> list[Any]:
        """Run a graph as a runner does, with its answers; return the data of `workflow_progress`."""
        run_id = self.hub.runs.join_run(execution_id)
        progress = RunProgress(self.hub, execution_id, run_id, graph, self.history, **options)
        progress.start()
        try:
            config = self.config(execution_id, progress)
            step: Any = {"log": []}
            while (await graph.ainvoke(step, config, version="v2")).interrupts:
                await asyncio.sleep(500)
                step = Command(resume="yes")
            progress.complete()
            outcome = RunOutcome("workflow_complete", {})
        except ConnectionError:
            outcome = RunOutcome("workflow_error", {"error": {"message": "lost"}})
        finally:
            progress.close()
        self.hub.runs.end_run(execution_id, outcome, run_id)
        return [update.data for update in await self.updates(execution_id)]

    def config(self, execution_id: str, observer: NodeObserver) -> Any:
        options = CallOptions(execution_id=execution_id, observer=observer)
        return graph_config(None, self.hub.publisher, options)

    async def updates(self, execution_id: str = "e") -> list[Any]:
        return await collect(self.hub.subscribe(execution_id, types=["workflow_progress"]))


Test = Callable[[Site], Coroutine[Any, Any, None]]


def virtual(test: Test) -> Callable[[], None]:
    """Run a test in virtual time."""

    async def main() -> None:
        site = Site()
        async with site.module:
            await test(site)

    def run() -> None:
        run_in_virtual_time(main())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@pytest.mark.row("FLOW-35")
@virtual
async def test_a_run_is_counted_at_first_and_timed_from_then_on(site: Site) -> None:
    graph = line(sleeper("plan", 2), sleeper("write", 8))
    first = await site.run(graph, "one")
    assert [each["progress"] for each in first] == [0, 50, 100]
    assert first[0] == {"total_nodes": 2, "completed_nodes": 0, "current_node": "plan", "progress": 0}
    assert first[-1] == {"total_nodes": 2, "completed_nodes": 2, "progress": 100, "eta_s": 0}
    second = await site.run(graph, "two")
    percent = [each["progress"] for each in second]
    assert percent == sorted(percent)
    assert percent == pytest.approx([0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100], abs=0.5)
    assert second[5]["eta_s"] == pytest.approx(5, abs=0.1)
    assert [each["completed_nodes"] for each in second] == [0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2]


@virtual
async def test_captured_nodes_have_their_own_ids_and_live_progress(site: Site) -> None:
    @stream_event(node_id="loading")
    async def load(state: State) -> State:
        await asyncio.sleep(1)
        return {"log": ["load"]}

    @stream_progress
    async def index(state: State) -> State:
        for _ in current_progress().track(range(100)):
            await asyncio.sleep(1)
        return {"log": ["index"]}

    graph = line(load, index)
    found = await site.run(graph)
    assert (found[0]["current_node"], found[0]["current_node_name"]) == ("loading", "load")
    assert found[1]["current_node"] == found[1]["current_node_name"] == "index"
    assert len(found) > 40, "each percent of the run, which is two of the node"
    middle = found[len(found) // 2]
    assert middle["progress"] == pytest.approx(75, abs=2)
    assert middle["eta_s"] == pytest.approx(0.5 * 100, rel=0.5)


@virtual
async def test_a_run_that_waits_for_a_human(site: Site) -> None:
    async def ask(state: State) -> State:
        await asyncio.sleep(1)
        interrupt("go on?")
        await asyncio.sleep(4)
        return {"log": ["ask"]}

    graph = line(sleeper("plan", 5), ask, sleeper("act", 10), checkpointer=InMemorySaver())
    for name in ("one", "two"):
        found = await site.run(graph, name)
        waiting = [each for each in found if "eta_s" not in each and each["completed_nodes"]]
        assert [each["current_node"] for each in waiting] == ["ask"]
        assert waiting[0]["progress"] < 40
        percent = [each["progress"] for each in found]
        assert percent == sorted(percent)
        assert percent.count(100) == 1
        assert percent[-1] == 100
    assert waiting[0]["progress"] == pytest.approx(100 * 6 / 21, abs=0.5)


@virtual
async def test_a_run_that_fails_is_not_complete_and_teaches_nothing(site: Site) -> None:
    async def broken(state: State) -> State:
        await asyncio.sleep(3)
        raise ConnectionError

    graph = line(sleeper("plan", 1), broken)
    for name in ("one", "two"):
        found = await site.run(graph, name)
        assert found[-1]["progress"] == 50
        assert [each["completed_nodes"] for each in found] == [0, 1]
        assert found[-1]["current_node"] == "broken"
        assert "eta_s" not in found[0]


@virtual
async def test_many_short_nodes_share_an_update(site: Site) -> None:
    found = await site.run(line(*(sleeper(f"n{number}", 0.01) for number in range(100))))
    assert len(found) <= 1 + 1.0 / 0.25 + 2
    assert [each["completed_nodes"] for each in found][-1] == 100
    assert all(each["total_nodes"] == 100 for each in found)


@virtual
async def test_branches_of_send_and_a_subgraph(site: Site) -> None:
    async def fan_out(state: State) -> list[Send]:
        return [Send("work", {}) for _ in range(4)]

    inner = line(sleeper("x", 1), sleeper("y", 1))
    builder = cast("Any", StateGraph(State))
    for node in (sleeper("split", 1), sleeper("work", 5)):
        builder.add_node(node.__name__, node)
    builder.add_node("sub", inner).add_edge(START, "split").add_conditional_edges("split", fan_out, ["work"])
    found = await site.run(builder.add_edge("work", "sub").add_edge("sub", END).compile())
    assert [each["total_nodes"] for each in found] == [3, 6, 6, 6]
    assert [each["completed_nodes"] for each in found] == [0, 1, 5, 6]
    assert [each.get("current_node") for each in found] == ["split", "work", "sub", None]


@virtual
async def test_a_run_of_another_process_goes_on_from_its_percentage(site: Site) -> None:
    graph = line(sleeper("plan", 1), sleeper("write", 1))
    earlier = {"total_nodes": 9, "completed_nodes": 7, "progress": 70.0, "current_node": "x"}
    found = await site.run(graph, earlier=earlier)
    assert [each["progress"] for each in found] == [70, 85, 100]
    assert [each["completed_nodes"] for each in found] == [7, 8, 9]
    again = await site.run(graph, "two")
    assert "eta_s" not in again[0], "nothing was learnt of a part of a run"


@virtual
async def test_graphs_of_one_structure_have_a_history_each_by_their_names(site: Site) -> None:
    slow, quick = (line(sleeper("a", seconds), sleeper("b", 1)) for seconds in (9, 1))
    await site.run(slow, "one", name="slow")
    found = await site.run(quick, "two", name="quick")
    assert "eta_s" not in found[0]
    found = await site.run(slow, "three", name="slow")
    assert found[0]["eta_s"] == pytest.approx(10, abs=0.1)


@virtual
async def test_after_its_close_it_publishes_nothing(site: Site) -> None:
    run_id = site.hub.runs.join_run("e")
    progress = RunProgress(site.hub, "e", run_id, line(sleeper("a", 1)), site.history)
    progress.node_started("a", "a:1", in_node=None)
    progress.start()
    progress.close()
    progress.node_started("a", "a:1", in_node=None)
    progress.node_ended("a:1", "complete")
    progress.complete()
    progress.close()
    await asyncio.sleep(10)
    site.hub.runs.end_run("e", RunOutcome("workflow_complete", {}), run_id)
    assert await site.updates() == []


@pytest.fixture
async def site() -> AsyncGenerator[Site]:
    site = Site()
    async with site.module:
        yield site


async def test_nodes_in_threads(site: Site) -> None:
    def work(state: State) -> State:
        time.sleep(0.002)
        return {"log": ["work"]}

    def fan_out(state: State) -> list[Send]:
        return [Send("work", {}) for _ in range(20)]

    def split(state: State) -> State:
        return {"log": ["split"]}

    builder = cast("Any", StateGraph(State)).add_node("split", split).add_node("work", stream_all(work))
    builder.add_edge(START, "split").add_conditional_edges("split", fan_out, ["work"]).add_edge("work", END)
    found = await site.run(builder.compile())
    assert found[-1] == {"total_nodes": 21, "completed_nodes": 21, "progress": 100, "eta_s": 0}
    percent = [each["progress"] for each in found]
    assert percent == sorted(percent)


async def test_a_closed_hub_does_not_disturb_the_run(site: Site) -> None:
    run_id = site.hub.runs.join_run("e")
    graph = line(sleeper("a", 0))
    progress = RunProgress(site.hub, "e", run_id, graph, site.history)
    progress.start()
    await graph.ainvoke({"log": []}, site.config("e", progress))
    site.hub.runs.end_run("e", RunOutcome("workflow_complete", {}), run_id)
    await site.hub.aclose()
    progress.complete()


class Counting:
    """An observer that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def node_started(self, node: str, namespace: str, *, in_node: str | None) -> None:
        self.calls += 1

    def node_ended(self, namespace: str, ending: object) -> None:
        self.calls += 1


async def test_tokens_cost_nothing(site: Site) -> None:
    model = ScriptedChatModel(answers=["word " * 500])

    @stream_all
    async def write(state: State) -> State:
        await model.ainvoke("go")
        return {"log": ["write"]}

    counting = Counting()
    await line(write).ainvoke({"log": []}, site.config("e", counting))
    assert len(await collect(site.hub.subscribe("e", types=["token"]))) > 1
    assert counting.calls == 2


@pytest.mark.parametrize("decorator", [None, stream_all, stream_event, stream_progress])
async def test_every_attempt_of_a_node_is_observed_once(site: Site, decorator: Any) -> None:
    seen: list[tuple[str, object]] = []

    class Recording:
        def node_started(self, node: str, namespace: str, *, in_node: str | None) -> None:
            seen.append((namespace, node))

        def node_ended(self, namespace: str, ending: object) -> None:
            seen.append((namespace, ending))

    tries = iter([ConnectionError(), None, None])

    async def flaky(state: State) -> State:
        error = next(tries)
        if error is not None:
            raise error
        interrupt("go on?")
        return {"log": ["flaky"]}

    builder = cast("Any", StateGraph(State))
    retry = RetryPolicy(initial_interval=0.0, jitter=False)
    builder.add_node("flaky", decorator(flaky) if decorator else flaky, retry_policy=retry)
    graph = builder.add_edge(START, "flaky").add_edge("flaky", END).compile(checkpointer=InMemorySaver())
    config = site.config("e", Recording())
    await graph.ainvoke({"log": []}, config)
    await graph.ainvoke(Command(resume="yes"), config)
    assert len({namespace for namespace, _ in seen}) == 1
    assert [what for _, what in seen] == ["flaky", "failed", "flaky", "interrupted", "flaky", "complete"]


# ---------------------------------------------------------------- runs of the runner
async def test_a_run_of_the_runner_is_at_100_right_before_its_end(site: Site) -> None:
    gate = Gate()
    gate.open.set()
    await site.module.runs.run(gated(gate), {"text": "hi"}, execution_id="e")
    updates = await collect(site.hub.subscribe("e"))
    assert [update.type for update in updates][-2:] == ["workflow_progress", "workflow_complete"]
    assert (updates[-2].data["progress"], updates[-2].data["completed_nodes"]) == (100, 1)
    assert updates[-2].metadata.run_id == updates[-1].metadata.run_id


async def test_a_run_that_is_cancelled_is_not_at_100(site: Site) -> None:
    gate = Gate()
    run = await site.module.runs.start(gated(gate), {"text": "hi"}, execution_id="e")
    async for update in run.updates(types=["workflow_progress"]):
        assert update.data["current_node"] == "work"
        break
    await run.cancel("enough")
    assert [update.data["progress"] for update in await site.updates()] == [0]


async def test_a_run_keeps_its_progress_over_an_answer(site: Site) -> None:
    run = await site.module.runs.start(asking(), {"text": "so:"}, execution_id="e")
    prompts = [update async for update in run.updates(until="interrupted") if update.type == "human_prompt"]
    async for update in site.hub.subscribe("e", types=["workflow_progress"], follow=True):
        waiting = update.data
        assert (waiting["completed_nodes"], waiting["current_node"], waiting["progress"]) == (0, "ask", 0)
        break
    await site.hub.respond("e", prompts[0].data["prompt_id"], "yes")
    await run
    assert (await site.updates())[-1].data == {
        "total_nodes": 2,
        "completed_nodes": 2,
        "progress": 100,
        "eta_s": 0,
    }


async def test_a_run_learns_from_a_run_of_another_process() -> None:
    network = Network()
    modules = [StreamingModule(log=network.log(name)) for name in "ab"]
    try:
        gate = Gate()
        gate.open.set()
        graph = gated(gate)
        await modules[0].runs.run(graph, {"text": "hi"}, execution_id="one")
        await until(lambda: bool(network.store))
        gate.open.clear()
        run = await modules[1].runs.start(graph, {"text": "hi"}, execution_id="two")
        async for update in run.updates(types=["workflow_progress"]):
            assert update.data["eta_s"] >= 0
            break
        gate.open.set()
        await run
    finally:
        for module in modules:
            await module.aclose()
        for fleet in network.fleets.values():
            fleet.stop()
