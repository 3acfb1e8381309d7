"""Cells of a real Jupyter kernel show runs."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.notebook.kernels import Kernel, kernel

SETUP = """
import asyncio
from lg_streaming import StreamingModule
from tests.wires import recordings as graphs
streaming = StreamingModule(graphs.SETTINGS)
"""


@pytest.fixture(scope="module")
def notebook() -> Generator[Kernel]:
    with kernel() as running:
        done = running.run(SETUP)
        assert not done.error
        yield running


def test_the_last_expression_of_a_cell(notebook: Kernel) -> None:
    """A run, and `show`, are HTML for a page and text for a terminal."""
    notebook.run("run = await streaming.runs.start(graphs.text(), graphs.ask(), execution_id='a')\nawait run")
    for cell in ("run", "streaming.show('a')"):
        (shown,) = notebook.run(cell).displays
        assert "It rains in Oslo, and it will rain." in shown["text/html"]
        assert ">complete</span>" in shown["text/html"]
        assert shown["text/plain"]
    assert "write1: complete" in notebook.run("print(repr(streaming.show('a')))").text
    (nothing,) = notebook.run("streaming.show('unknown')").displays
    assert "No updates so far." in nothing["text/html"]


def test_a_live_run_has_one_output(notebook: Kernel) -> None:
    """The output changes in place, and the value of the cell does not show the run again."""
    start = "run = await streaming.runs.start(graphs.branches(), {}, execution_id='b')\n"
    output = notebook.run(f"{start}await streaming.show('b')")
    (shown,) = output.displays
    assert output.updates >= 1
    assert ">complete</span>" in shown["text/html"]
    kept = notebook.run("kept = await streaming.show('b')")
    assert len(kept.displays) == 1
    assert len(notebook.run("kept").displays) == 1


def test_an_interrupt_of_the_kernel_stops_the_output_alone(notebook: Kernel) -> None:
    notebook.run("run = await streaming.runs.start(graphs.waits(), graphs.ask(), execution_id='c')")
    output = notebook.run("await streaming.show('c')", interrupt_at=">running</span>")
    assert not output.error
    assert len(output.displays) == 1
    assert notebook.run("print(run.status)").text.strip() == "running"
    (ended,) = notebook.run("await run.cancel('enough')\nawait streaming.show('c')").displays
    assert ">cancelled</span>" in ended["text/html"]


def test_a_question_shows_the_call_that_answers(notebook: Kernel) -> None:
    notebook.run("run = await streaming.runs.start(graphs.asks(), graphs.ask(), execution_id='d')")
    output = notebook.run("await streaming.show('d')", interrupt_at="waits for you")
    (shown,) = output.displays
    assert "Go on?" in shown["text/html"]
    assert "await streaming.hub.respond(&#x27;d&#x27;, " in shown["text/html"]
    notebook.run(
        "async for update in streaming.hub.subscribe('d', until='interrupted'):\n"
        "    if update.type == 'human_prompt': prompt = update.data['prompt_id']\n"
        "await streaming.hub.respond('d', prompt, 'yes')\nawait run"
    )
    (ended,) = notebook.run("streaming.show('d')").displays
    assert "You answered yes." in ended["text/html"]
