"""The tables of settings and of decorator options agree with the code."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typer.core import TyperGroup as Group
from typer.main import get_command

from lg_streaming import StreamingSettings, sse_response, stream_all
from lg_streaming.cli.main import app
from lg_streaming.decorators import StreamEventOptions, StreamProgressOptions, StreamTokenOptions
from lg_streaming.filters import FILTER_FIELDS
from lg_streaming.testing import ScriptedChatModel

DOCS = Path(__file__).resolve().parents[2] / "docs"
OPTIONS: dict[str, Any] = {
    "stream_token": StreamTokenOptions,
    "stream_event": StreamEventOptions,
    "stream_progress": StreamProgressOptions,
}
CODE = re.compile(r"`([^`]+)`")


def section(page: str, heading: str) -> str:
    """The text under a heading, up to the next heading."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no heading {heading!r}"
    return found[1]


def rows(text: str) -> Iterator[list[str]]:
    """The cells of each table row that begins with code."""
    for line in text.splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def settings_of(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, field in model.model_fields.items():
        part = field.annotation
        if isinstance(part, type) and issubclass(part, BaseModel):
            yield from settings_of(part, f"{path}{name}.")
        else:
            yield f"{path}{name}", field.default


def test_the_page_of_settings_has_every_setting_with_its_variable_and_default() -> None:
    told: dict[str, tuple[str, Any]] = {}
    for cells in rows((DOCS / "guide/settings.md").read_text(encoding="utf-8")):
        name, variable = CODE.findall(cells[0])
        told[name] = (variable, ast.literal_eval(CODE.findall(cells[1])[0]))
    assert told == {
        name: ("LG_STREAMING_" + name.upper().replace(".", "__"), default)
        for name, default in settings_of(StreamingSettings)
    }


def test_pages_name_settings_that_there_are() -> None:
    known = {name for name, _ in settings_of(StreamingSettings)}
    known |= {name.rpartition(".")[0] for name in known}
    for page in DOCS.rglob("*.md"):
        named = re.findall(
            r"`((?:auth|limits|retention|gateway\.compression)\.[a-z_.]+)", page.read_text(encoding="utf-8")
        )
        assert set(named) <= known, page.name


def test_the_page_of_event_streams_has_every_argument() -> None:
    cells = [cells[0] for cells in rows(section("guide/event-streams.md", "Streaming from your own route"))]
    told = {name for cell in cells for name in CODE.findall(cell)}
    own = set(inspect.signature(sse_response).parameters) - {"hub", "execution_id", "filters"}
    assert told == own | set(FILTER_FIELDS)


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_the_page_of_a_decorator_has_every_option(name: str) -> None:
    page = "guide/" + {"stream_token": "tokens", "stream_event": "events", "stream_progress": "progress"}[name] + ".md"
    told = {CODE.findall(cells[0])[0] for cells in rows((DOCS / page).read_text(encoding="utf-8"))}
    assert set(OPTIONS[name].__annotations__) <= told


def test_the_page_of_decorators_has_the_parts_of_stream_all() -> None:
    told = list(rows(section("guide/decorators.md", "stream_all")))
    parameters = inspect.signature(stream_all).parameters
    assert {CODE.findall(cells[0])[0] for cells in told} == set(parameters) - {"node"}
    for cells in told:
        assert ast.literal_eval(CODE.findall(cells[1])[0]) == parameters[CODE.findall(cells[0])[0]].default


def test_the_page_of_testing_has_every_option_of_the_scripted_model() -> None:
    told = {CODE.findall(cells[0])[0] for cells in rows(section("guide/testing.md", "Options"))}
    own = set(ScriptedChatModel.__annotations__) & set(ScriptedChatModel.model_fields)
    assert told == own


@pytest.mark.parametrize("command", ["demo", "doctor", "serve", "token"])
def test_the_page_of_the_command_line_has_every_option(command: str) -> None:
    told = {
        option
        for cells in rows(section("reference/command-line.md", command))
        for option in re.findall(r"--[a-z][a-z0-9-]+", cells[0])
    }
    group = get_command(app)
    assert isinstance(group, Group)
    known = [each for each in group.commands[command].params if each.param_type_name == "option"]
    assert told == {name for each in known for name in (*each.opts, *each.secondary_opts)} - {"--help", "-h"}
