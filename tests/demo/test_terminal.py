"""The view in the terminal."""

from __future__ import annotations

import io
import re
from datetime import timedelta
from typing import Any

import pytest
from rich.console import Console

from lg_streaming.cli.render import LineRenderer, PanelRenderer, make_renderer
from lg_streaming.folding import formatting
from lg_streaming.folding.run_view import Progress, RunView
from tests.demo.updates import NOON, Update, node, script


def terminal(*, width: int = 100, height: int = 24) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, height=height, highlight=False)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def at(seconds: float) -> float:
    return (NOON + timedelta(seconds=seconds)).timestamp()


def research() -> list[Update]:
    say, first, second = script(), node("research", 1), node("research", 2)
    return [
        say("workflow_start"),
        say("node_start", **first),
        say("node_start", **second),
        say("tool_start", {"tool": "search", "input": {"query": "rain"}}, **first),
        say("tool_complete", {"tool": "search", "output": "wet", "duration_s": 0.4}, **first),
        say("token", {"content": "It rains.\nA l"}, **first),
        say("progress", {"progress": 60, "current": 3, "total": 5, "eta_s": 4}, **second),
        say("token", {"content": "ot."}, **first),
        say("node_complete", {"duration_s": 7}, **first),
        say("node_error", {"error": {"message": "no key"}, "duration_s": 6}, **second),
        say("workflow_error", {"error": {"message": "no key"}}),
    ]


def shown(console: Console, updates: list[Update], *, address: str | None = None) -> str:
    """Return the screen after the last update, before the end is drawn."""
    run = RunView()
    renderer = PanelRenderer(console, run, address=address, clock=lambda: at(len(updates)))
    with renderer:
        for update in updates:
            renderer.on_update(run.apply(update))
        assert isinstance(console.file, io.StringIO)
        console.file.seek(0)
        console.file.truncate()
        renderer.tick()
        return written(console)


def test_a_terminal_gets_panels_and_anything_else_gets_lines() -> None:
    assert isinstance(make_renderer(terminal(), RunView(), address=None), PanelRenderer)
    assert isinstance(make_renderer(Console(file=io.StringIO()), RunView(), address=None), LineRenderer)


def test_lines_are_plain_and_tell_everything_once() -> None:
    out, run = io.StringIO(), RunView()
    with LineRenderer(out, run) as renderer:
        for update in research():
            renderer.on_update(run.apply(update))
    assert out.getvalue().splitlines() == [
        "   1.0 s  research      started",
        "   2.0 s  research #2   started",
        "   3.0 s  research #1   search(rain)",
        "   4.0 s  research #1   search(rain) complete after 0.4 s",
        "   5.0 s  research #1   | It rains.",
        "   6.0 s  research #2   60 %, about 4.0 s left",
        "   8.0 s  research #1   | A lot.",
        "   8.0 s  research #1   complete after 7.0 s",
        "   9.0 s  research #2   failed after 6.0 s: no key",
    ]


def test_lines_left_open_are_told_at_the_end() -> None:
    out, run = io.StringIO(), RunView()
    say = script()
    with LineRenderer(out, run) as renderer:
        renderer.on_update(run.apply(say("token", {"content": "cut of"}, **node("write"))))
        assert "cut of" not in out.getvalue()
    assert "write         | cut of" in out.getvalue()


def test_a_retry_is_told_in_lines() -> None:
    out, run = io.StringIO(), RunView()
    say = script()
    with LineRenderer(out, run) as renderer:
        for update in [
            say("node_start", **node("write")),
            say("node_error", {"error": "gone", "duration_s": 1}, **node("write")),
            say("node_start", **node("write", attempt=2)),
        ]:
            renderer.on_update(run.apply(update))
    assert [line[10:] for line in out.getvalue().splitlines()] == [
        "write         started",
        "write         failed after 1.0 s: gone",
        "write (attempt 2)  started",
    ]


def test_panels_show_nodes_at_work_side_by_side() -> None:
    screen = shown(terminal(width=120), research()[:8], address="http://127.0.0.1:8000/watch/exec-1")
    top = next(line for line in screen.splitlines() if "research" in line)
    assert "research #1" in top
    assert "research #2" in top
    assert "✓" in screen
    assert "search" in screen
    assert "60 %, about 2.0 s left" in screen
    assert "A lot." in screen
    assert "2 tokens · 8 updates" in screen
    assert "http://127.0.0.1:8000/watch/exec-1" in screen


def test_panels_stand_one_above_the_other_where_the_terminal_is_narrow() -> None:
    screen = shown(terminal(width=40), research()[:8])
    assert not any("#1" in line and "#2" in line for line in screen.splitlines())


def test_a_long_text_shows_its_newest_lines_while_it_is_written() -> None:
    say = script()
    text = "\n".join(f"line {number}" for number in range(100))
    screen = shown(terminal(height=20), [say("token", {"content": text}, **node("write"))])
    assert "line 99" in screen
    assert "line 80 " not in screen
    assert len(screen.splitlines()) <= 20


def test_rows_that_are_done_go_into_the_history_whole() -> None:
    console, run = terminal(height=10), RunView()
    say, text = script(), "\n".join(f"line {number}" for number in range(30))
    updates = [say("token", {"content": text}, **node("write")), say("node_complete", **node("write"))]
    with PanelRenderer(console, run, address=None, clock=lambda: at(2)) as renderer:
        for update in updates:
            renderer.on_update(run.apply(update))
            renderer.tick()
    assert written(console).count("line 0 ") == 1
    assert "complete · 1.0 s" in written(console)


def test_a_failed_node_stays_open_for_its_next_attempt() -> None:
    console, run = terminal(), RunView()
    say = script()
    with PanelRenderer(console, run, address=None, clock=lambda: at(3)) as renderer:
        for update in [
            say("node_start", **node("write")),
            say("node_error", {"error": "gone"}, **node("write")),
            say("node_start", **node("write", attempt=2)),
            say("node_complete", **node("write", attempt=2)),
        ]:
            renderer.on_update(run.apply(update))
            renderer.tick()
    history = written(console)
    assert "gone" in history
    assert "write (attempt 2)" in history


def test_texts_are_never_taken_for_markup() -> None:
    say = script()
    hostile = "[bold]not bold[/bold] [link=x]y[/link]"
    screen = shown(terminal(), [say("token", {"content": hostile}, **node("[red]write"))])
    assert hostile in screen
    assert "[red]write" in screen


@pytest.mark.parametrize(
    ("value", "told"),
    [(0, "0.0 s"), (0.44, "0.4 s"), (9.96, "10.0 s"), (12.4, "12 s"), (59.7, "1 min 0 s"), (125, "2 min 5 s")],
)
def test_seconds(value: float, told: str) -> None:
    assert formatting.format_seconds(value) == told


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("rain", "rain"),
        ({"q": "rain", "n": 3}, "rain, 3"),
        ({}, ""),
        ([1, "a"], '[1, "a"]'),
        (None, "null"),
        ({"a": {"b": "c"}}, "c"),
    ],
)
def test_the_gist_of_a_tools_arguments(value: object, told: str) -> None:
    assert formatting.shorten(value) == told


def test_how_far() -> None:
    half = Progress(percent=50, eta=4, at=at(0))
    assert formatting.progress_text(half, now=at(1)) == "50 %, about 3.0 s left"
    assert formatting.progress_text(half, now=at(9)) == "50 %, about 0.0 s left"
    assert formatting.progress_text(Progress(percent=100, eta=0, at=at(0)), now=at(0)) == "100 %"
    assert formatting.progress_text(Progress(percent=33.3, eta=None, at=at(0)), now=at(0)) == "33 %"


def test_the_summary() -> None:
    run = RunView()
    for update in research():
        run.apply(update)
    assert formatting.summary(run) == "Run failed: 11 updates, 2 tokens, first token after 5.0 s, 10 s in all."
    assert formatting.summary(RunView()) == "Run waiting: 0 updates, 0 tokens, 0.0 s in all."


def team() -> list[Update]:
    """A node with an agent in it that uses another one as a tool, which asks a human."""
    say = script()
    outer: dict[str, Any] = {"node_id": "team", "namespace": "team:1", "attempt": 1}
    model: dict[str, Any] = {"node_id": "model", "namespace": "team:1|model:2", "attempt": 1, "agent_type": "lead"}
    tools: dict[str, Any] = {"node_id": "tools", "namespace": "team:1|tools:3", "attempt": 1, "agent_type": "lead"}
    poet: dict[str, Any] = {"node_id": "model", "namespace": "team:1|tools:3|model:4", "agent_type": "poet"}
    poet |= {"attempt": 1, "tool_call_id": "c1"}
    ask = {"interrupts": [{"id": "i", "value": "May it rhyme?"}]}
    return [
        say("node_cached", {"node_id": "load"}, **node("load")),
        say("node_start", **outer),
        say("token", {"content": "Wri"}, message_id="a", **model),
        say("llm_error", {"error": "gone"}, message_id="a", **model),
        say("token", {"content": "Write."}, message_id="b", **model),
        say("node_complete", {"duration_s": 1}, **model),
        say("tool_start", {"tool": "poet", "input": {"topic": "rain"}}, tool_call_id="c1", **tools),
        say("token", {"content": "Rain falls\non roofs"}, message_id="c", **poet),
        say("node_interrupted", {"duration_s": 2}, **poet),
        say("tool_interrupted", {"tool": "poet", **ask}, tool_call_id="c1", **tools),
        say("workflow_interrupted", ask),
    ]


def plain(screen: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen)


@pytest.mark.parametrize("width", [28, 60, 140])
def test_nodes_inside_a_node_are_indented_in_its_panel(width: int) -> None:
    screen = plain(shown(terminal(width=width), team()))
    lines = [line.strip("│╭╰╮╯ ─").rstrip() for line in screen.splitlines()]
    at_line = {word: next(i for i, line in enumerate(lines) if word in line) for word in ("team", "Write.", "poet")}
    assert at_line["team"] < at_line["Write."] < at_line["poet"] < len(lines)
    assert not any(line.endswith("Wri") for line in lines)
    assert max(len(line) for line in screen.splitlines()) <= width
    column = {word: screen.splitlines()[at_line[word]].index(word) for word in at_line}
    assert column["team"] <= column["poet"]


def test_a_paused_tool_asks_and_so_does_the_whole_run() -> None:
    screen = plain(shown(terminal(width=100), team()))
    assert "‖ poet  asks: May it rhyme?" in screen
    assert "‖ May it rhyme?" in screen.replace("asks: ", "")
    assert "✓ cached" in screen


def test_a_run_shows_its_place_its_progress_and_its_prompts() -> None:
    say = script()
    waits: list[Update] = [say("workflow_start"), say("status", {"status": "queued", "place": 3})]
    assert "queued, place 3" in plain(shown(terminal(), waits))
    works = [*waits, say("status", {"status": "running"}), say("workflow_progress", {"progress": 40, "eta_s": 9})]
    assert "running  0 tokens · 4 updates · 4.0 s · 40 %, about 8.0 s left" in plain(shown(terminal(), works))
    data = {"prompt_id": "p", "prompt": "Send it?", "type": "approval", "default": False, "expires_at": at(30)}
    asks = [
        *works,
        say("node_start", **node("ask")),
        say("node_interrupted", **node("ask")),
        say("human_prompt", data, **node("ask")),
        say("workflow_interrupted", {"prompts": [data]}),
    ]
    screen = plain(shown(terminal(), asks))
    assert "‖ Send it?  y yes  n no  false in 22 s" in screen
    assert "waits for you" in screen
    answered = [
        *asks,
        say("human_response", {"prompt_id": "p", "response": True, "responded_by": "ann"}, **node("ask")),
    ]
    assert "Send it?  → yes (by ann)" in plain(shown(terminal(), answered))
    ended = plain(shown(terminal(), [*asks, say("workflow_cancelled")]))
    assert "Send it?  → not answered" in ended
    assert "‖ Send it?" not in ended


def test_lines_of_inner_nodes_say_where_they_are() -> None:
    out, run = io.StringIO(), RunView()
    with LineRenderer(out, run) as renderer:
        for update in team():
            renderer.on_update(run.apply(update))
    assert [line[10:] for line in out.getvalue().splitlines()] == [
        "load          answered from the cache",
        "team          started",
        "team/lead/model  started",
        "team/lead/model  | Write.",
        "team/lead/model  complete after 1.0 s",
        "team/lead/tools  started",
        "team/lead/tools  poet(rain)",
        "team/lead/tools/poet/model  started",
        "team/lead/tools/poet/model  | Rain falls",
        "team/lead/tools/poet/model  | on roofs",
        "team/lead/tools/poet/model  interrupted after 2.0 s",
        "team/lead/tools  poet(rain) interrupted after 3.0 s: May it rhyme?",
        "run           asks: May it rhyme?",
    ]


def test_lines_that_no_longer_count_are_followed_by_one_that_says_so() -> None:
    out, run, say = io.StringIO(), RunView(), script()
    with LineRenderer(out, run) as renderer:
        for update in [
            say("token", {"content": "Half of it\n"}, message_id="a", **node("write")),
            say("llm_error", {"error": "gone"}, message_id="a", **node("write")),
            say("token", {"content": "All of it\n"}, message_id="b", **node("write")),
        ]:
            renderer.on_update(run.apply(update))
    assert [line[24:] for line in out.getvalue().splitlines()] == [
        "started",
        "| Half of it",
        "the last text is retracted: the node writes it again",
        "| All of it",
    ]
