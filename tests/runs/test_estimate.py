"""The progress of a run as figures: nodes, percentage, seconds left, from events with their times."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lg_streaming.runs.estimate import RunEstimate
from lg_streaming.runs.history import MAX_TRACE, RunTrace, Visit
from lg_streaming.runs.structure import Edge, GraphStructure

LINE = GraphStructure(
    nodes=("a", "b", "c"), edges=(Edge("__start__", "a"), Edge("a", "b"), Edge("b", "c"), Edge("c", "__end__"))
)
LOOP = GraphStructure(
    nodes=("draft", "review"),
    edges=(
        Edge("__start__", "draft"),
        Edge("draft", "review"),
        Edge("review", "draft", True),
        Edge("review", "__end__", True),
    ),
)
FLOW = GraphStructure(nodes=("flow",), is_functional=True)


def trace(*nodes: tuple[str, float]) -> RunTrace:
    """A run of these nodes, one after another."""
    at, visits = 0.0, list[Visit]()
    for node, seconds in nodes:
        visits.append(Visit(node, at, at + seconds, seconds))
        at += seconds
    return RunTrace(at, len(visits), tuple(visits))


SLOW_B = trace(("a", 1), ("b", 8), ("c", 1))


def visit(estimate: RunEstimate, node: str, start: float, end: float, *, name: str | None = None) -> None:
    estimate.start(name or node, node, start)
    estimate.end(name or node, "complete", end)


def test_without_an_earlier_run_it_counts_the_nodes_of_the_graph() -> None:
    estimate = RunEstimate(LINE)
    assert estimate.figures(0).progress == 0
    assert estimate.figures(0).total_nodes == 3
    assert estimate.figures(0).eta_s is None
    estimate.start("1", "a", 0)
    found = estimate.figures(5)
    assert (found.total_nodes, found.completed_nodes, found.current, found.progress) == (3, 0, "1", 0)
    estimate.end("1", "complete", 10)
    estimate.start("2", "b", 10)
    found = estimate.figures(10)
    assert (found.total_nodes, found.completed_nodes, found.current) == (3, 1, "2")
    assert found.progress == pytest.approx(100 / 3)
    assert found.eta_s == pytest.approx(20)


def test_with_an_earlier_run_the_percentage_is_that_of_the_time() -> None:
    estimate = RunEstimate(LINE, [SLOW_B])
    estimate.start("1", "a", 100)
    assert estimate.figures(100.5).progress == pytest.approx(5)
    assert estimate.figures(100.5).eta_s == pytest.approx(9.5)
    estimate.end("1", "complete", 101)
    estimate.start("2", "b", 101)
    assert [round(estimate.figures(101 + n).progress) for n in (0, 4, 8)] == [10, 50, 90]


def test_a_node_that_takes_longer_than_ever_does_not_reach_the_end() -> None:
    estimate = RunEstimate(LINE, [SLOW_B])
    visit(estimate, "a", 0, 1)
    visit(estimate, "b", 1, 9)
    estimate.start("c", "c", 9)
    found = [estimate.figures(at).progress for at in (10, 50, 1_000)]
    assert found == sorted(found)
    assert found[-1] < 100
    assert (estimate.figures(1_000).eta_s or 0) > 0


def test_a_slow_run_learns_from_its_own_pace() -> None:
    estimate = RunEstimate(LINE, [SLOW_B])
    visit(estimate, "a", 0, 10)
    estimate.start("b", "b", 10)
    assert estimate.figures(10).eta_s == pytest.approx(9)
    assert estimate.figures(10).progress == pytest.approx(100 * 10 / 19)


def test_waiting_for_a_human_is_no_work() -> None:
    estimate = RunEstimate(LINE, [SLOW_B])
    visit(estimate, "a", 0, 1)
    estimate.start("b", "b", 1)
    estimate.end("b", "interrupted", 3)
    waiting = estimate.figures(3)
    assert (waiting.current, waiting.eta_s, waiting.completed_nodes) == ("b", None, 1)
    assert waiting.progress == pytest.approx(30)
    assert estimate.figures(100_000) == waiting
    estimate.start("b", "b", 100_000)
    assert estimate.figures(100_003).progress == pytest.approx(60)
    estimate.end("b", "complete", 100_006)
    visit(estimate, "c", 100_006, 100_007)
    found = estimate.finish(100_007)
    assert found is not None
    assert found.seconds == pytest.approx(10)
    assert found.visits[1].seconds == pytest.approx(8)


def test_an_interrupted_run_is_not_at_the_end_although_all_its_nodes_have_begun() -> None:
    estimate = RunEstimate(LINE)
    for at, node in enumerate("ab"):
        visit(estimate, node, at, at + 1)
    estimate.start("c", "c", 2)
    estimate.progress("c", 100.0, 3)
    estimate.end("c", "interrupted", 3)
    found = estimate.figures(50)
    assert found.progress < 100
    assert (found.total_nodes, found.completed_nodes) == (3, 2)


def test_a_node_that_is_tried_again_begins_again() -> None:
    estimate = RunEstimate(LINE, [SLOW_B])
    visit(estimate, "a", 0, 1)
    estimate.start("b", "b", 1)
    before = estimate.figures(7)
    estimate.end("b", "failed", 7)
    estimate.start("b", "b", 10)
    after = estimate.figures(10)
    assert (after.completed_nodes, after.total_nodes) == (1, 3)
    assert after.eta_s == pytest.approx(9)
    assert after.progress == before.progress, "it never goes back"
    estimate.end("b", "complete", 18)
    visit(estimate, "c", 18, 19)
    found = estimate.finish(19)
    assert found is not None
    assert found.seconds == pytest.approx(1 + 6 + 8 + 1), "without the pause before the second try"
    assert found.visits[1] == Visit("b", 7.0, 15.0, 8.0)


def test_each_round_of_a_loop_adds_nodes() -> None:
    estimate = RunEstimate(LOOP)
    totals, percent, at = list[int](), list[float](), 0.0
    for turn in range(4):
        for node in ("draft", "review"):
            estimate.start(f"{node} {turn}", node, at)
            totals.append(estimate.figures(at).total_nodes)
            estimate.end(f"{node} {turn}", "complete", at + 1)
            at += 1
            percent.append(estimate.figures(at).progress)
    assert totals == [2, 2, 4, 4, 6, 6, 8, 8]
    assert percent == sorted(percent)
    assert percent[-1] < 100


def test_the_rounds_of_earlier_runs_are_expected() -> None:
    rounds = trace(*[("draft", 3.0), ("review", 1.0)] * 3)
    estimate = RunEstimate(LOOP, [rounds])
    estimate.start("1", "draft", 0)
    assert estimate.figures(0).total_nodes == 6
    assert estimate.figures(3).progress == pytest.approx(25)


def test_a_run_that_took_the_same_way_counts_most() -> None:
    quick = trace(("classify", 1), ("quick", 1))
    thorough = trace(("classify", 1), ("thorough", 98), ("check", 1))
    estimate = RunEstimate(GraphStructure(), [thorough, thorough, quick])
    visit(estimate, "classify", 0, 1)
    estimate.start("quick", "quick", 1)
    assert estimate.figures(1).eta_s == pytest.approx(1, rel=0.1)
    other = RunEstimate(GraphStructure(), [quick, quick, thorough])
    visit(other, "classify", 0, 1)
    other.start("thorough", "thorough", 1)
    assert other.figures(1).total_nodes == 3
    assert other.figures(1).eta_s == pytest.approx(99, rel=0.1)


def test_newer_runs_count_more() -> None:
    fast, slow = trace(("a", 1)), trace(("a", 9))
    first, second = RunEstimate(LINE, [fast, slow]), RunEstimate(LINE, [slow, fast])
    assert (first.figures(0).total_nodes, second.figures(0).total_nodes) == (1, 1)
    for each in (first, second):
        each.start("a", "a", 0)
    assert (first.figures(0).eta_s or 0) > (second.figures(0).eta_s or 0)


def test_parallel_nodes_wait_for_the_longest() -> None:
    visits = (Visit("s", 0, 1, 1), Visit("x", 1, 3, 2), Visit("y", 1, 9, 8), Visit("join", 9, 10, 1))
    estimate = RunEstimate(GraphStructure(), [RunTrace(10, 4, visits)])
    visit(estimate, "s", 0, 1)
    estimate.start("x", "x", 1)
    estimate.start("y", "y", 1)
    assert estimate.figures(1).eta_s == pytest.approx(9)
    estimate.end("y", "complete", 4)
    assert estimate.figures(4).eta_s == pytest.approx(1 + 0.1 * 3), "x is late, and the time of y has passed"
    assert estimate.figures(4).current == "x"


@pytest.mark.parametrize("learnt", [False, True])
def test_branches_of_send_grow_the_total(learnt: bool) -> None:
    fan_out = GraphStructure(
        nodes=("split", "work", "join"),
        edges=(
            Edge("__start__", "split"),
            Edge("split", "work", True),
            Edge("work", "join"),
            Edge("join", "__end__"),
        ),
    )
    known = RunTrace(7, 4, (Visit("split", 0, 1, 1), *[Visit("work", 1, 6, 5)] * 2, Visit("join", 6, 7, 1)))
    estimate = RunEstimate(fan_out, [known] if learnt else [])
    visit(estimate, "split", 0, 1)
    before = estimate.figures(1).progress
    for number in range(5):
        estimate.start(f"work {number}", "work", 1)
    assert estimate.figures(1).total_nodes == 7
    for number in range(5):
        estimate.end(f"work {number}", "complete", 5)
    after = estimate.figures(5)
    assert (after.completed_nodes, after.total_nodes) == (6, 7)
    assert after.progress > before


def test_the_live_progress_of_a_node_counts() -> None:
    counted, learnt = RunEstimate(LINE), RunEstimate(LINE, [SLOW_B])
    for estimate in (counted, learnt):
        visit(estimate, "a", 0, 1)
        estimate.start("b", "b", 1)
        for percent in range(5, 55, 5):
            estimate.progress("b", percent, 1 + percent)
    assert counted.figures(51).progress == pytest.approx(50), "one and a half of three nodes"
    assert 35 < (learnt.figures(51).eta_s or 0) < 50, "half of the node took 50 s, in place of 4 s"
    learnt.progress("b", 20.0, 52)
    learnt.progress("none", 99.0, 52)
    assert (learnt.figures(52).eta_s or 0) > 30


def test_the_tasks_of_an_entrypoint_are_its_nodes() -> None:
    estimate = RunEstimate(FLOW)
    estimate.start("flow", "flow", 0)
    assert estimate.figures(1).total_nodes == 0
    for number in range(2):
        estimate.start(f"t{number}", "fetch", 2 * number + 1, in_node="flow")
        assert estimate.figures(2 * number + 1).current == f"t{number}"
        estimate.end(f"t{number}", "complete", 2 * number + 2)
    found = estimate.figures(4)
    assert (found.total_nodes, found.completed_nodes, found.progress) == (4, 2, 50)
    estimate.end("flow", "complete", 6)
    learnt = estimate.finish(6)
    assert learnt is not None
    assert (learnt.seconds, [each.start for each in learnt.visits]) == (6, [1, 3])
    second = RunEstimate(FLOW, [learnt])
    second.start("flow", "flow", 0)
    second.start("t", "fetch", 1, in_node="flow")
    assert second.figures(1).total_nodes == 2
    assert second.figures(1.5).progress == pytest.approx(25)


def test_the_tasks_in_a_node_of_a_graph_do_not_count() -> None:
    estimate = RunEstimate(LINE)
    estimate.start("a", "a", 0)
    estimate.start("t", "fetch", 0, in_node="a")
    estimate.end("t", "complete", 1)
    assert (estimate.figures(1).completed_nodes, estimate.figures(1).total_nodes) == (0, 3)


def test_a_run_goes_on_in_another_process_from_its_last_percentage() -> None:
    estimate = RunEstimate(LINE, [SLOW_B], progress=60.0, completed=1)
    assert estimate.figures(0).progress == 60
    visit(estimate, "c", 0, 0.5, name="1")
    found = estimate.figures(0.5)
    assert found.progress >= 60
    assert found.completed_nodes == 2
    assert estimate.finish(0.5) is None, "nothing is learnt of half a run"
    assert estimate.figures(0.5).progress == 100


def test_the_history_may_come_later() -> None:
    estimate = RunEstimate(LINE)
    estimate.start("a", "a", 0)
    assert estimate.figures(1).eta_s is None
    estimate.learn([SLOW_B])
    assert estimate.figures(1).eta_s == pytest.approx(9, rel=0.1)


def test_a_run_of_many_visits_needs_bounded_memory() -> None:
    estimate = RunEstimate(LOOP)
    for number in range(5_000):
        visit(estimate, "draft", number, number + 1, name=str(number))
    found = estimate.finish(5_000)
    assert found is not None
    assert len(found.visits) == MAX_TRACE
    assert (found.total, found.seconds) == (5_000, 5_000)
    again = RunEstimate(LOOP, [found])
    for number in range(300):
        visit(again, "draft", number, number + 1, name=str(number))
    assert 0 < again.figures(300).progress < 100
    assert again.figures(300).total_nodes >= 5_000 - MAX_TRACE


@st.composite
def _events(draw: st.DrawFn) -> list[tuple[str, str, str, float]]:
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["start", "complete", "failed", "interrupted", "cancelled", "progress", "look"]),
                st.sampled_from("xyz"),
                st.sampled_from(["a", "b", "new"]),
                st.floats(0, 1e6),
            ),
            max_size=60,
        )
    )
    return [*steps, ("look", "x", "a", 1.0)]


@given(_events(), st.lists(st.sampled_from([SLOW_B, trace(("a", 0)), RunTrace(0, 0, ()), trace(("new", 1e5))])))
def test_the_percentage_never_goes_back_and_is_100_at_the_end_alone(
    events: Sequence[tuple[str, str, str, float]], traces: Sequence[RunTrace]
) -> None:
    estimate, at, before = RunEstimate(LINE, traces), 0.0, 0.0
    for kind, name, node, value in events:
        at += value if kind == "look" else 0.0
        if kind == "start":
            estimate.start(name, node, at)
        elif kind == "progress":
            estimate.progress(name, value, at)
        elif kind != "look":
            estimate.end(name, kind, at)  # pyright: ignore[reportArgumentType]
        found = estimate.figures(at)
        assert before <= found.progress < 100
        assert found.total_nodes >= found.completed_nodes
        assert found.eta_s is None or found.eta_s >= 0
        before = found.progress
    estimate.finish(at)
    found = estimate.figures(at)
    assert (found.progress, found.eta_s) == (100, 0)
    assert found.total_nodes == found.completed_nodes
