"""The picture of a run: hostile texts, its size, its run, and plain text."""

from __future__ import annotations

import asyncio
from html.parser import HTMLParser
from typing import Any

import pytest
from typing_extensions import override

from lg_streaming import StreamingModule
from lg_streaming.notebook import RunDisplay
from tests.wires.recordings import SETTINGS, ask, fails, subgraphs

pytestmark = pytest.mark.anyio
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'></div>\x1b[31m\u202e"
ALLOWED = {"div", "span", "details", "summary"}


class Checker(HTMLParser):
    """Checker of HTML: the tags and attributes that it has, and whether they are balanced."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: set[str] = set()
        self.feed(html)
        self.close()
        assert self.open == []

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ALLOWED
        self.open.append(tag)
        self.attributes |= {name for name, _ in attrs}

    @override
    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def html_of(streaming: StreamingModule, execution_id: str) -> str:
    return streaming.show(execution_id)._repr_html_()  # pyright: ignore[reportPrivateUsage]


async def picture(streaming: StreamingModule, execution_id: str) -> str:
    """The HTML; a thread makes it, as it waits for another one that reads the log."""
    return await asyncio.to_thread(html_of, streaming, execution_id)


async def test_no_text_becomes_markup() -> None:
    async with StreamingModule() as streaming:
        hub = streaming.hub
        emitter = hub.emitter("x", node_id=HOSTILE)
        emitter.event("node_start", {"node_id": HOSTILE, "node_name": HOSTILE, "attempt": 1})
        emitter.event("token", {"content": HOSTILE, "message_id": HOSTILE})
        emitter.event("tool_start", {"tool": HOSTILE, "tool_call_id": "c", "input": {HOSTILE: HOSTILE}})
        emitter.event("tool_error", {"tool": HOSTILE, "tool_call_id": "c", "error": {"message": HOSTILE}})
        emitter.event("human_prompt", {"prompt_id": HOSTILE, "prompt": HOSTILE, "choices": [HOSTILE]})
        await hub.fail("x", HOSTILE)
        html = await picture(streaming, "x")
    assert Checker(html).attributes <= {"style", "open"}
    assert html.count("&lt;script&gt;") >= 6
    assert not any(sign in html for sign in ("\x1b", "\u202e"))


async def test_a_long_run_has_a_bounded_size() -> None:
    async with StreamingModule() as streaming:
        for number in range(100):
            emitter = streaming.hub.emitter("x", node_id=f"node-{number}")
            emitter.event("node_start", {"node_id": f"node-{number}", "node_name": f"node-{number}", "attempt": 1})
            for _ in range(20):
                emitter.event("token", {"content": "word " * 60, "message_id": f"m-{number}"})
            emitter.event("node_complete", {"node_id": f"node-{number}", "result": None, "duration_s": 1.0})
        html = await picture(streaming, "x")
    assert "40 earlier nodes are not shown" in html
    assert "node-99" in html
    assert len(html) < 60 * 3_500


async def test_only_the_run_of_a_handle_is_shown() -> None:
    async with StreamingModule(SETTINGS) as streaming:
        first = await streaming.runs.start(fails(), ask(), execution_id="x")
        with pytest.raises(Exception, match="told to fail"):
            await first
        await streaming.runs.run(subgraphs(), ask(), execution_id="x")
        run: Any = first
        html = await asyncio.to_thread(run._repr_html_)
        assert ">failed</span>" in html
        assert "In short: rain." not in html
        assert "In short: rain." in await picture(streaming, "x")


async def test_plain_text_without_a_notebook(capsys: pytest.CaptureFixture[str]) -> None:
    async with StreamingModule(SETTINGS) as streaming:
        run = await streaming.runs.start(subgraphs(), ask(), execution_id="x")
        shown = await streaming.show("x")
        await run
    assert isinstance(shown, RunDisplay)
    lines = capsys.readouterr().out.splitlines()
    assert "child/forecaster/tools: complete" in "\n".join(lines)
    assert lines[-1].startswith("Run complete: ")
