"""The structure of a graph: the nodes that may follow."""

import operator
from typing import Annotated, Any, Literal, cast

import pytest
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send
from typing_extensions import TypedDict

from lg_streaming.runs.structure import Edge, GraphStructure


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]


def node(_: State) -> State:
    return {}


def builder_of(*names: str) -> Any:
    builder = cast("Any", StateGraph(State))
    for name in names:
        builder.add_node(name, node)
    return builder.add_edge(START, names[0])


def test_a_line() -> None:
    found = GraphStructure.of(builder_of("a", "b").add_edge("a", "b").add_edge("b", END).compile())
    assert found.nodes == ("a", "b")
    assert [found.expected_after(each) for each in ([], ["a"], ["b"])] == [2, 1, 0]


def test_the_alternatives_of_a_router_share_a_visit() -> None:
    def route(_: State) -> Literal["b", "c", "__end__"]:
        return "b"

    built = builder_of("a", "b", "c", "d").add_conditional_edges("a", route)
    found = GraphStructure.of(built.add_edge("b", "d").add_edge("c", "d").add_edge("d", END).compile())
    assert found.expected_after(["a"]) == pytest.approx(2 / 3 + (1 - (2 / 3) ** 2))
    assert found.expected_after(["c"]) == 1


def test_parallel_nodes_are_all_visited_and_join_once() -> None:
    built = builder_of("a", "b", "c", "d").add_edge("a", "b").add_edge("a", "c").add_edge(["b", "c"], "d")
    found = GraphStructure.of(built.add_edge("d", END).compile())
    assert found.expected_after([]) == 4
    assert found.expected_after(["b", "c"]) == 1


def test_a_loop_counts_as_one_round() -> None:
    def route(_: State) -> Literal["a", "c"]:
        return "c"

    built = builder_of("a", "b", "c").add_edge("a", "b").add_conditional_edges("b", route)
    found = GraphStructure.of(built.add_edge("c", END).compile())
    assert [found.expected_after(each) for each in ([], ["a"], ["b"], ["c"])] == [3, 2, 1, 0]


def test_send_and_command_name_their_targets() -> None:
    def fan_out(_: State) -> list[Send]:
        return [Send("b", {})]

    def jump(_: State) -> Command[Literal["c"]]:
        return Command(goto="c")

    built = builder_of("a").add_node("b", jump).add_node("c", node)
    found = GraphStructure.of(built.add_conditional_edges("a", fan_out, ["b"]).add_edge("c", END).compile())
    assert found.expected_after(["a"]) == 2
    assert found.expected_after(["b"]) == 1


def test_a_subgraph_is_one_node() -> None:
    inner = builder_of("x", "y").add_edge("x", "y").add_edge("y", END).compile()
    found = GraphStructure.of(
        builder_of("a").add_node("sub", inner).add_edge("a", "sub").add_edge("sub", END).compile()
    )
    assert found.nodes == ("a", "sub")
    assert found.expected_after(["a"]) == 1


def test_an_entrypoint_has_no_structure() -> None:
    @task
    def work() -> int:
        return 1

    @entrypoint()
    def flow(_: object) -> int:
        return work().result()

    found = GraphStructure.of(cast("Any", flow))
    assert found.is_functional
    assert found.expected_after([]) is None


def test_a_router_that_names_no_targets_may_go_anywhere() -> None:
    def route(_: State) -> str:
        return "b"

    built = builder_of("a", "b").add_conditional_edges("a", route)
    found = GraphStructure.of(built.add_edge("b", END).compile())
    assert {each.target for each in found.edges if each.source == "a"} == {"a", "b", "__end__"}
    assert 0 < (found.expected_after(["a"]) or 0) < 1


def test_an_unknown_node_has_no_expectation() -> None:
    assert GraphStructure().expected_after(["a"]) is None
    assert GraphStructure(edges=(Edge("__start__", "a"),)).expected_after(["other"]) is None


def test_it_has_the_edges_that_langgraph_draws() -> None:
    def fan_out(_: State) -> list[Send]:
        return [Send("b", {})]

    def route(_: State) -> Literal["a", "c"]:
        return "c"

    built = builder_of("a", "b", "c", "d").add_conditional_edges("a", fan_out, {"x": "b", "y": "c"})
    built = built.add_conditional_edges("b", route).add_edge(["b", "c"], "d").add_edge("d", END)
    graph = built.compile()
    drawn = {(each.source, each.target, each.conditional) for each in graph.get_graph().edges}
    assert {tuple(each) for each in GraphStructure.of(graph).edges} == drawn


def test_a_changed_graph_has_another_fingerprint() -> None:
    line = GraphStructure(nodes=("a", "b"), edges=(Edge("a", "b"),))
    assert line.fingerprint == GraphStructure(nodes=("b", "a"), edges=(Edge("a", "b"),)).fingerprint
    assert line.fingerprint != GraphStructure(nodes=("a", "b"), edges=(Edge("b", "a"),)).fingerprint
    assert line.fingerprint != GraphStructure(nodes=("a", "b", "c"), edges=(Edge("a", "b"),)).fingerprint


def test_a_large_graph_with_every_edge_is_quick() -> None:
    names = [f"n{number}" for number in range(200)]
    edges = tuple(Edge(a, b, True) for a in ("__start__", *names) for b in (*names, "__end__"))
    found = GraphStructure(nodes=tuple(names), edges=edges)
    assert 0 < (found.expected_after([]) or 0) <= 200
