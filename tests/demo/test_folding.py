"""The terminal and the page make the same of the same updates: one suite over both."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lg_streaming.cli.render import LineRenderer, PanelRenderer
from lg_streaming.cli.update_line import update_line
from lg_streaming.folding.prompt_view import PromptView
from lg_streaming.folding.run_view import NodeView, RunView, ToolPart
from lg_streaming.notebook.markup import render_html
from lg_streaming.notebook.plain import render_text
from tests.demo.updates import Update, node, script
from tests.watch.hostile import odd_updates

Fold = Callable[[Sequence[Update]], dict[str, Any]]

ROOT = Path(__file__).parents[2]


def fold_for_terminal(updates: Sequence[Update]) -> dict[str, Any]:
    run = RunView()
    for update in updates:
        run.apply(update)
    return {
        "state": run.state,
        "error": run.error,
        "updates": run.updates,
        "tokens": run.tokens,
        "rows": _rows(run.rows),
        "gaps": run.gaps,
        "place": run.place,
        "prompts": [_prompt(one) for one in run.prompts],
    }


def _prompt(one: PromptView) -> list[Any]:
    return [one.prompt_id, one.text, list(one.choices), one.state, one.answer, one.responded_by, one.timed_out]


def _rows(rows: list[list[NodeView]]) -> list[list[dict[str, Any]]]:
    return [[_card(one) for one in row] for row in rows if row]


def _card(one: NodeView) -> dict[str, Any]:
    parts = [
        ["tool", part.name, part.state, part.arguments, part.output, part.error]
        if isinstance(part, ToolPart)
        else [part.kind, part.text]
        for part in one.parts
    ]
    return {
        "name": one.name,
        "number": one.number,
        "alone": one.is_single,
        "attempt": one.attempt,
        "tries": one.tries,
        "state": one.state,
        "error": one.error,
        "duration": one.duration,
        "percent": one.progress.percent if one.progress else None,
        "parts": parts,
        **({"path": list(one.path)} if one.path else {}),
        **({"inside": inside} if (inside := _rows(one.rows)) else {}),
    }


def fold_for_page(items: Sequence[Update]) -> dict[str, Any]:
    module = (ROOT / "lg_streaming/static/watch/run/run.js").as_uri()
    command = ["node", "--no-warnings", str(Path(__file__).with_name("fold.mjs")), module]
    done = subprocess.run(command, input=json.dumps(items), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.fixture(params=[fold_for_terminal, fold_for_page], ids=["terminal", "page"])
def fold(request: pytest.FixtureRequest) -> Fold:
    return request.param


def test_nothing_yet(fold: Fold) -> None:
    nothing: dict[str, Any] = {"state": "waiting", "error": None, "updates": 0, "tokens": 0, "rows": [], "gaps": []}
    assert fold([]) == {**nothing, "place": None, "prompts": []}


def test_a_node_speaks_and_ends(fold: Fold) -> None:
    say, write = script(), node("write")
    run = fold(
        [
            say("workflow_start"),
            say("node_start", {"node_id": "write", "node_name": "Writer"}, **write),
            say("thinking", {"content": "Hm."}, message_id="m1", **write),
            say("token", {"content": "Hel"}, message_id="m1", **write),
            say("token", {"content": "lo"}, message_id="m1", **write),
            say("progress", {"progress": 40, "current": 2, "total": 5, "eta_s": 3}, **write),
            say("token", {"content": "Bye"}, message_id="m2", **write),
            say("node_complete", {"duration_s": 1.5}, **write),
            say("workflow_complete"),
        ]
    )
    assert (run["state"], run["updates"], run["tokens"]) == ("complete", 9, 4)
    assert run["rows"] == [
        [
            {
                "name": "Writer",
                "number": 1,
                "alone": True,
                "attempt": 1,
                "tries": 1,
                "state": "complete",
                "error": None,
                "duration": 1.5,
                "percent": 40,
                "parts": [["thinking", "Hm."], ["token", "Hello"], ["token", "Bye"]],
            }
        ]
    ]


def test_branches_side_by_side_are_told_apart(fold: Fold) -> None:
    say = script()
    first, second = node("research", 1), node("research", 2)
    run = fold(
        [
            say("node_start", **first),
            say("node_start", **second),
            say("token", {"content": "a"}, **first),
            say("token", {"content": "b"}, **second),
            say("token", {"content": "A"}, **first),
            say("node_complete", **second),
            say("node_complete", **first),
            say("node_start", **node("research", 3)),
        ]
    )
    (row, later) = run["rows"]
    assert [(card["number"], card["parts"]) for card in row] == [(1, [["token", "aA"]]), (2, [["token", "b"]])]
    assert [card["number"] for card in later] == [3]
    assert not later[0]["alone"]


def test_a_retry_starts_its_text_afresh(fold: Fold) -> None:
    say = script()
    run = fold(
        [
            say("node_start", **node("write")),
            say("token", {"content": "half"}, **node("write")),
            say("progress", {"progress": 50}, **node("write")),
            say("node_error", {"error": {"message": "gone"}}, **node("write")),
            say("node_start", **node("write", attempt=2)),
            say("token", {"content": "whole"}, **node("write", attempt=2)),
        ]
    )
    ((card,),) = run["rows"]
    assert (card["attempt"], card["state"], card["error"], card["percent"]) == (2, "running", None, None)
    assert card["parts"] == [["token", "whole"]]


def test_a_second_visit_is_a_node_of_its_own(fold: Fold) -> None:
    say = script()
    plain = {"node_id": "write"}
    run = fold(
        [
            say("node_start", **plain),
            say("token", {"content": "one"}, **plain),
            say("node_complete", **plain),
            say("node_start", **plain),
            say("token", {"content": "two"}, **plain),
        ]
    )
    assert [[card["parts"] for card in row] for row in run["rows"]] == [[[["token", "one"]]], [[["token", "two"]]]]


def test_tool_calls_from_their_arguments_to_their_answers(fold: Fold) -> None:
    say, ask = script(), node("ask")
    run = fold(
        [
            say("node_start", **ask),
            say("tool_args", {"tool": "search", "tool_call_id": "c1", "args": "", "index": 0}, message_id="m", **ask),
            say("tool_args", {"args": '{"q": ', "index": 0}, message_id="m", **ask),
            say("tool_args", {"tool": "add", "tool_call_id": "c2", "args": "", "index": 1}, message_id="m", **ask),
            say("tool_args", {"args": '"rain"}', "index": 0}, message_id="m", **ask),
            say("tool_start", {"tool": "search", "input": {"q": "rain"}}, tool_call_id="c1", **ask),
            say("tool_complete", {"tool": "search", "output": "It rains."}, tool_call_id="c1", **ask),
            say("tool_start", {"tool": "now", "input": {}}, **ask),
            say("tool_error", {"tool": "now", "error": {"message": "no clock"}}, **ask),
        ]
    )
    ((card,),) = run["rows"]
    assert card["parts"] == [
        ["tool", "search", "complete", {"q": "rain"}, "It rains.", None],
        ["tool", "add", "asked", "", None, None],
        ["tool", "now", "failed", {}, None, "no clock"],
    ]


def test_a_failed_run_says_why_and_leaves_nothing_running(fold: Fold) -> None:
    say = script()
    run = fold(
        [
            say("node_start", **node("plan")),
            say("node_start", **node("write")),
            say("node_error", {"error": {"message": "no key"}}, **node("plan")),
            say("workflow_error", {"error": {"message": "no key"}}),
        ]
    )
    assert (run["state"], run["error"]) == ("failed", "no key")
    assert [[(card["state"], card["error"]) for card in row] for row in run["rows"]] == [
        [("failed", "no key")],
        [("cancelled", None)],  # it did not fail: the failure of the other one stopped it
    ]


@pytest.mark.parametrize(("kind", "state"), [("workflow_cancelled", "cancelled"), ("workflow_abandoned", "abandoned")])
def test_other_ends(fold: Fold, kind: str, state: str) -> None:
    say = script()
    run = fold([say("node_start", **node("write")), say(kind)])
    assert (run["state"], run["rows"][0][0]["state"]) == (state, state)


CANCELLED = {"error": {"message": "cancelled", "code": "cancelled"}, "duration_s": 1}


def test_what_was_at_work_when_its_run_was_cancelled_is_cancelled(fold: Fold) -> None:
    say = script()
    run = fold(
        [
            say("node_start", **node("write")),
            say("tool_start", {"tool": "search", "tool_call_id": "c1"}, **node("write")),
            say("tool_error", {"tool": "search", "tool_call_id": "c1", **CANCELLED}, **node("write")),
            say("node_error", CANCELLED, **node("write")),
            say("node_start", **node("read")),
            say("node_error", {"error": {"message": "cancelled", "code": "cancelled", "type": "Own"}}, **node("read")),
            say("workflow_cancelled", {"reason": "enough"}),
        ]
    )
    cards = [card for row in run["rows"] for card in row]
    assert [(card["state"], card["error"]) for card in cards] == [("cancelled", None), ("failed", "cancelled")]
    assert cards[0]["parts"][0][2:] == ["cancelled", "", None, None]


def test_a_run_that_waits_for_a_human_goes_on(fold: Fold) -> None:
    say = script()
    asked = [
        say("node_start", **node("ask")),
        say("node_interrupted", **node("ask")),
        say("workflow_interrupted"),
    ]
    resumed = [*asked, say("node_start", **node("ask", attempt=2))]
    assert (fold(asked)["state"], fold(asked)["rows"][0][0]["state"]) == ("interrupted", "interrupted")
    assert (fold(resumed)["state"], fold(resumed)["rows"][0][0]["state"]) == ("running", "running")


def ask(prompt_id: str, **more: Any) -> dict[str, Any]:
    return {"prompt_id": prompt_id, "prompt": f"{prompt_id}?", "type": "choice", "choices": ["a", "b"], **more}


def test_prompts_are_open_until_they_are_answered(fold: Fold) -> None:
    say = script()
    asked = [
        say("node_start", **node("ask")),
        say("node_interrupted", **node("ask")),
        say("human_prompt", ask("p1"), **node("ask")),
        say("human_prompt", ask("p2"), **node("ask")),
        say("workflow_interrupted", {"prompts": [ask("p1"), ask("p2")]}),
    ]
    assert fold(asked)["state"] == "interrupted"
    assert [prompt[3] for prompt in fold(asked)["prompts"]] == ["open", "open"]
    answered = [
        *asked,
        say("human_response", {"prompt_id": "p2", "response": "b", "responded_by": "ann"}, **node("ask")),
        say("human_response", {"prompt_id": "p1", "response": "a", "timed_out": True}, **node("ask")),
    ]
    assert fold(answered)["state"] == "interrupted"
    assert fold(answered)["prompts"] == [
        ["p1", "p1?", ["a", "b"], "answered", "a", None, True],
        ["p2", "p2?", ["a", "b"], "answered", "b", "ann", False],
    ]
    resumed = [*answered, say("status", {"status": "resumed"}), say("node_start", **node("ask", attempt=2))]
    again = [
        *resumed,
        say("node_interrupted", **node("ask")),
        say("human_prompt", ask("p1", error="not a"), **node("ask")),
    ]
    card = fold(resumed)["rows"][0][0]
    assert (fold(resumed)["state"], card["attempt"], card["tries"]) == ("running", 2, 1)
    assert [prompt[3] for prompt in fold(again)["prompts"]] == ["answered", "answered", "open"]


@pytest.mark.parametrize("end", ["workflow_cancelled", "workflow_complete"])
def test_prompts_close_with_the_run(fold: Fold, end: str) -> None:
    say = script()
    run = fold([say("human_prompt", ask("p1")), say(end)])
    assert [prompt[3] for prompt in run["prompts"]] == ["closed"]


def test_only_prompts_that_pause_the_run_close_when_it_goes_on(fold: Fold) -> None:
    say = script()
    run = fold(
        [
            say("human_prompt", ask("published")),
            say(
                "workflow_interrupted", {"interrupts": [{"id": "paused", "value": {"human_prompt": 1, "prompt": "x"}}]}
            ),
            say("node_start", **node("ask")),
        ]
    )
    assert [(prompt[0], prompt[1], prompt[3]) for prompt in run["prompts"]] == [
        ("published", "published?", "open"),
        ("paused", "x", "closed"),
    ]


@pytest.mark.parametrize(
    ("updates", "state", "place"),
    [
        ([("status", {"status": "queued", "place": 2})], "queued", 2),
        ([("status", {"status": "queued", "place": 2}), ("status", {"status": "running"})], "running", None),
        ([("status", {"status": "paused"}), ("workflow_interrupted", {"paused": True})], "paused", None),
        ([("workflow_interrupted", {"paused": True}), ("status", {"status": "resumed"})], "running", None),
        ([("status", {"status": "resting"})], "running", None),
        ([("status", {"status": "queued"}), ("workflow_progress", {"progress": 0})], "queued", None),
    ],
)
def test_the_state_of_a_run(
    fold: Fold, updates: list[tuple[str, dict[str, Any]]], state: str, place: int | None
) -> None:
    say = script()
    run = fold([say("workflow_start"), *(say(kind, data) for kind, data in updates)])
    assert (run["state"], run["place"]) == (state, place)


def test_a_reader_that_came_late_sees_a_node_without_its_start(fold: Fold) -> None:
    run = fold([script()("token", {"content": "tail"}, **node("write", attempt=3))])
    ((card,),) = run["rows"]
    assert (card["name"], card["attempt"], card["parts"]) == ("write", 3, [["token", "tail"]])


def test_text_outside_of_any_node_has_a_place_too(fold: Fold) -> None:
    run = fold([script()("token", {"content": "Hi"})])
    assert [card["name"] for row in run["rows"] for card in row] == ["run"]


@pytest.mark.parametrize("data", ["text", 7, [1, 2], {"content": ["x"]}], ids=repr)
def test_custom_events_of_any_shape_are_counted_and_left_alone(fold: Fold, data: object) -> None:
    say = script()
    run = fold([say("task:done", data), say("node_start", **node("write")), say("note", data, **node("write"))])
    assert run["updates"] == 3
    assert run["rows"][0][0]["parts"] == []


def test_the_page_counts_no_update_twice() -> None:
    say = script()
    updates = [say("node_start", **node("write")), say("token", {"content": "once"}, **node("write"))]
    run = fold_for_page([*updates, *updates])
    assert (run["updates"], run["rows"][0][0]["parts"]) == (2, [["token", "once"]])


def test_the_page_says_what_it_missed() -> None:
    say = script()
    lost = {"execution_id": "exec-1", "from": 1, "to": 41, "reason": "evicted"}
    run = fold_for_page([lost, say("token", {"content": "tail"}, **node("write"))])
    assert run["gaps"] == [
        "The updates 1 to 41 are no longer kept by the server. What they held is missing here.",
    ]


@pytest.mark.parametrize("reason", ["epoch_changed", "future_position"])
def test_the_page_starts_afresh_when_the_server_has_another_log(reason: str) -> None:
    old, new = script(epoch="old"), script(epoch="new")
    run = fold_for_page(
        [
            old("token", {"content": "old"}, **node("write")),
            {"execution_id": "exec-1", "from": 2, "to": None, "reason": reason},
            new("token", {"content": "new"}, **node("write")),
        ]
    )
    assert [card["parts"] for row in run["rows"] for card in row] == [[["token", "new"]]]
    assert len(run["gaps"]) == 1


def test_the_page_shows_the_next_run_of_an_execution_by_itself() -> None:
    say = script()
    run = fold_for_page(
        [
            say("workflow_start"),
            say("token", {"content": "first"}, **node("write")),
            say("workflow_complete"),
            say("workflow_start"),
            say("token", {"content": "second"}, **node("write", 2)),
        ]
    )
    assert (run["state"], run["tokens"]) == ("running", 1)
    assert [card["parts"] for row in run["rows"] for card in row] == [[["token", "second"]]]


TEAM: dict[str, Any] = {"node_id": "team", "namespace": "team:1", "attempt": 1}


def inside(name: str, namespace: str, agent: str | None = None, **more: Any) -> dict[str, Any]:
    agent_type = {"agent_type": agent} if agent else {}
    return {"node_id": name, "namespace": namespace, "attempt": 1, **agent_type, **more}


def tree(rows: list[list[dict[str, Any]]], depth: int = 0) -> list[str]:
    """Cards as indented lines: path, name, number where there are several, state, and texts."""
    lines: list[str] = []
    for card in (card for row in rows for card in row):
        name = "/".join([*card.get("path", []), card["name"]]) + ("" if card["alone"] else f" #{card['number']}")
        texts = "".join(part[1] for part in card["parts"] if part[0] == "token")
        lines.append("  " * depth + f"{name} {card['state']} {texts}".rstrip())
        lines += tree(card.get("inside", []), depth + 1)
    return lines


def test_nodes_are_shown_inside_the_node_they_run_in(fold: Fold) -> None:
    say = script()
    run = fold(
        [
            say("node_start", **TEAM),
            say("node_start", **inside("model", "team:1|model:2", "lead")),
            say("token", {"content": "Go."}, **inside("model", "team:1|model:2", "lead")),
            say("node_complete", **inside("model", "team:1|model:2", "lead")),
            say("node_start", **inside("researcher", "team:1|researcher:3")),
            say("token", {"content": "Rain."}, **inside("model", "team:1|researcher:3|1|model:4", "researcher")),
            say("node_start", **inside("model", "team:1|model:5", "lead")),
            say("node_complete", **TEAM),
            say("node_start", **node("after")),
        ]
    )
    assert tree(run["rows"]) == [
        "team complete",
        "  lead/model #1 complete Go.",
        "  researcher running",
        "    model running Rain.",
        "  lead/model #2 running",
        "after running",
    ]


def test_a_node_whose_outer_node_is_not_shown_has_a_path(fold: Fold) -> None:
    run = fold([script()("token", {"content": "Hi"}, **inside("model", "team:1|writer:2|model:3", "poet"))])
    assert run["rows"][0][0]["path"] == ["team", "writer", "poet"]


def test_a_retried_node_has_the_nodes_inside_it_afresh_and_a_resumed_one_keeps_them(fold: Fold) -> None:
    for end, expected in (
        ("node_error", ["team running"]),
        ("node_interrupted", ["team running", "  model complete A"]),
    ):
        say = script()
        run = fold(
            [
                say("node_start", **TEAM),
                say("token", {"content": "A"}, **inside("model", "team:1|model:2")),
                say("node_complete", **inside("model", "team:1|model:2")),
                say(end, **TEAM),
                say("node_start", **{**TEAM, "attempt": 2}),
            ]
        )
        assert tree(run["rows"]) == expected


def test_an_agent_that_is_used_as_a_tool_is_shown_inside_the_call(fold: Fold) -> None:
    say, tools = script(), inside("tools", "tools:1")
    inner = inside("model", "tools:1|model:2", "poet", tool_call_id="c1")
    run = fold(
        [
            say("node_start", **tools),
            say("tool_start", {"tool": "poet"}, tool_call_id="c1", **tools),
            say("token", {"content": "Rain."}, **inner),
            say("node_interrupted", **inner),
            say(
                "tool_interrupted",
                {"tool": "poet", "interrupts": [{"id": "i", "value": "Rhyme?"}], "duration_s": 1},
                tool_call_id="c1",
                **tools,
            ),
        ]
    )
    ((card,),) = run["rows"]
    assert "inside" not in card
    ((kind, name, state, *_rest),) = card["parts"]
    assert (kind, name, state) == ("tool", "poet", "interrupted")


def test_a_call_that_fails_takes_its_text_and_its_wishes_back(fold: Fold) -> None:
    say, ask = script(), node("ask")
    run = fold(
        [
            say("token", {"content": "Hal"}, message_id="m", **ask),
            say("tool_args", {"tool": "search", "tool_call_id": "c1", "args": "{", "index": 0}, message_id="m", **ask),
            say("llm_error", {"error": "gone"}, message_id="m", **ask),
            say("token", {"content": "Whole."}, message_id="n", **ask),
        ]
    )
    assert run["rows"][0][0]["parts"] == [["token", "Whole."]]


def test_a_node_from_the_cache(fold: Fold) -> None:
    run = fold([script()("node_cached", {"node_id": "load", "node_name": "Load", "result": 1}, **node("load"))])
    ((card,),) = run["rows"]
    assert (card["name"], card["state"]) == ("Load", "cached")


def test_late_updates_of_an_attempt_that_is_over_change_nothing(fold: Fold) -> None:
    say = script()
    run = fold(
        [
            say("node_start", **node("write")),
            say("node_start", **node("write", attempt=2)),
            say("token", {"content": "late"}, **node("write")),
            say("node_error", {"error": "late"}, **node("write")),
        ]
    )
    ((card,),) = run["rows"]
    assert (card["attempt"], card["state"], card["parts"]) == (2, "running", [])


def test_data_of_any_shape_is_folded_and_drawn() -> None:
    """A program may publish a known type with data of another shape."""
    run, line_renderer = RunView(), LineRenderer(io.StringIO(), RunView())
    for kind, data in odd_updates():
        for place in ({}, {"node_id": "n", "namespace": "n:1", "message_id": "m1", "attempt": 1}):
            metadata = {"timestamp": "2026-01-02T03:04:05.678Z", "execution_id": "odd", **place}
            update: Any = {"type": kind, "data": data, "metadata": metadata}
            line_renderer.on_update(run.apply(update))
            update_line(update, with_execution=True)
    for width, height in ((80, 24), (1, 1), (400, 100)):
        console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True)
        with PanelRenderer(console, run, address=None, clock=lambda: 0.0) as panels:
            for node in run.nodes:
                panels.on_update(node)
            panels.tick()
    assert "odd" in render_html("odd", run, now=0.0)
    assert "odd" in render_text("odd", run)
    assert run.state == "running"
