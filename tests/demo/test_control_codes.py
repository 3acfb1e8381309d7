"""No text of an update, a server or a model reaches the terminal as a control code."""

from __future__ import annotations

import io
import re
import unicodedata
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from lg_streaming.cli import main
from lg_streaming.cli.demo import DemoError, DemoOptions
from lg_streaming.cli.render import LineRenderer, PanelRenderer
from lg_streaming.escaping import escape_controls, escape_line
from lg_streaming.folding.run_view import RunView
from tests.demo.updates import Update, script

CODES = [
    "\x1b]52;c;aGFja2Vk\x07",  # writes the clipboard
    "\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\",  # a link
    "\x1b[2J\x1b[H",  # clears the screen
    "\x9b2J\x9d52;c;aGk=\x9c",  # the same with C1 codes
    '\x1bP$q"p\x1b\\\x90+q544e\x9c',  # device control strings, answered on the input
    "\x1b[6n\x05",  # asks the terminal to type
    "\u202egnp.exe\u2066\u2069\u061c",
    "fine\rforged\b\b\x7f\x00",
    "one\u2028two\u2029three\x85four\x0bfive\x0csix\x1cseven",
    "\ud83d half \udc00",
]
OWN = re.compile(r"\x1b\[[0-9;]*[mAK]|\x1b\[\?25[lh]|\x1b\[1A|\x1b\[2K|\r")
"""Control codes of rich itself: colours, the cursor up, a line erased, the cursor hidden and shown."""


def is_hidden(letter: str) -> bool:
    """By the categories of Unicode, not by the list of the code under test."""
    if letter in "\t\n":
        return False
    bidi = unicodedata.bidirectional(letter)
    return (
        unicodedata.category(letter) in {"Cc", "Zl", "Zp", "Cs"}
        or bidi in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
        or letter in "\u200e\u200f\u061c"
    )


def updates_with(text: str) -> list[Update]:
    """A run in which every text is ``text``."""
    say = script()
    about: dict[str, Any] = {"node_id": text, "namespace": f"{text}|in{text}:1", "agent_type": text, "attempt": 1}
    tool = {"tool": text, "tool_call_id": text}
    return [
        say("workflow_start"),
        say("node_start", {"node_name": text}, **about),
        say("thinking", {"content": text, "message_id": text}, **about),
        say("token", {"content": f"{text}\n{text}", "message_id": text}, **about),
        say("tool_start", {**tool, "input": {"q": text, "more": [text]}}, **about),
        say("node_start", {"node_name": text}, node_id="b", namespace=f"{text}|in{text}:1|b:1", tool_call_id=text),
        say("tool_interrupted", {**tool, "interrupts": [{"value": text}]}, **about),
        say("tool_error", {**tool, "error": {"message": text}}, **about),
        say("workflow_interrupted", {"interrupts": [{"value": {"ask": text}}]}),
        say("progress", {"progress": 60}, **about),
        say("node_error", {"error": {"message": text}, "duration_s": 1}, **about),
        say("workflow_error", {"error": text}),
    ]


def on_a_terminal(text: str) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=120, height=40, highlight=False)
    run = RunView()
    with PanelRenderer(console, run, address="http://x/" + text, clock=lambda: 0.0) as renderer:
        for update in updates_with(text):
            renderer.on_update(run.apply(update))
            renderer.tick()
    assert isinstance(console.file, io.StringIO)
    return OWN.sub("", console.file.getvalue())


def in_lines(text: str) -> str:
    out, run = io.StringIO(), RunView()
    with LineRenderer(out, run) as renderer:
        for update in updates_with(text):
            renderer.on_update(run.apply(update))
    return out.getvalue()


@pytest.mark.parametrize("code", CODES, ids=range(len(CODES)))
@pytest.mark.parametrize("show", [on_a_terminal, in_lines])
def test_no_control_code_of_an_update_is_printed(code: str, show: Any) -> None:
    shown = show(code)
    assert [hex(ord(letter)) for letter in shown if is_hidden(letter)] == []
    shown.encode()
    assert "\\" in shown, "it is visible that there was one"


def test_each_thing_that_happened_is_one_line() -> None:
    assert all(re.match(r" *\d+\.\d s  ", line) for line in in_lines("x\n   0.0 s  forged").split("\n")[:-1])


def test_every_code_point_is_shown_or_escaped() -> None:
    for point in range(0x110000):
        letter = chr(point)
        shown = escape_controls(letter)
        assert not any(is_hidden(each) for each in shown), hex(point)
        assert shown == letter or is_hidden(letter) or point in {*range(0x206A, 0x2070), 0xFFF9, 0xFFFA, 0xFFFB}
        assert escape_line(letter).isprintable() or unicodedata.category(letter) in {"Zs", "Cf", "Co", "Cn"}


TEXTS = st.text(st.characters(codec=None, min_codepoint=0, max_codepoint=0x10FFFF), max_size=40)


@given(TEXTS)
@example("\r\r\n\r")
def test_whatever_is_printed_has_no_control_code(text: str) -> None:
    shown = escape_controls(text)
    assert not any(is_hidden(letter) for letter in shown)
    shown.encode()
    assert "\n" not in escape_line(text)
    assert "\t" not in escape_line(text)
    plain = "".join(letter for letter in text if not is_hidden(letter))
    assert shown == text or plain != text


@settings(max_examples=20)
@given(TEXTS)
def test_no_text_of_an_update_brings_a_control_code(text: str) -> None:
    for show in (on_a_terminal, in_lines):
        assert not any(is_hidden(letter) for letter in show(text))


@pytest.mark.parametrize("code", CODES[:5], ids=range(5))
def test_an_error_that_ends_the_command_is_printed_without_its_codes(
    monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    async def failing(options: DemoOptions, console: Console) -> None:
        raise DemoError(f"the run failed: {options.question}")

    monkeypatch.setattr("lg_streaming.cli.demo.run_demo", failing)
    result = CliRunner().invoke(main.app, ["demo", "--question", code, "--once"])
    assert result.exit_code == 1
    assert "the run failed" in result.output
    assert not any(is_hidden(letter) for letter in result.output)
