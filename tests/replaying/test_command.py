"""`lg-streaming replay`: addresses, every wire, prompts, pages of other origins, Ctrl-C, errors."""

from __future__ import annotations

import json
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx
import pytest
from typer.testing import CliRunner

from lg_streaming.cli.main import app
from lg_streaming.cli.replay import parse_speed
from lg_streaming.client import SyncClient
from tests.replaying.files import made_up, write
from tests.support import warm

ORIGIN = "http://front.example"
LINES = [
    *made_up(
        (0, "workflow_start", {"run_id": "r"}),
        (0, "token", {"content": "It rains."}),
        (1, "workflow_complete", {"result": {}}),
        execution_id="a",
    ),
    *made_up(
        (0, "workflow_start", {"run_id": "r"}),
        (0, "human_prompt", {"prompt_id": "p", "prompt": "Go on?", "type": "approval", "value": "?"}),
        (0, "workflow_interrupted", {"prompts": [{"prompt_id": "p", "prompt": "Go on?"}]}),
        (0, "human_response", {"prompt_id": "p", "response": True}),
        (0, "status", {"status": "resumed"}),
        execution_id="b/c",
    ),
]


@contextmanager
def serving(path: Path, *arguments: str) -> Generator[tuple[list[str], str]]:
    """The command, with what it prints first, and the address of the server; Ctrl-C ends it."""
    program = warm.start("-m", "lg_streaming", "replay", str(path), "--port=0", *arguments)
    with program as process:
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if "Ctrl-C ends" in line:
                break
        else:
            raise AssertionError(process.stderr.read() if process.stderr is not None else lines)
        url = next(line.split()[-1] for line in lines if "REST" in line).partition("/executions")[0]
        try:
            yield lines, url
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 130
            assert process.stderr is not None
            assert process.stderr.read() == ""


def test_a_recording_is_served(tmp_path: Path) -> None:
    path = write(tmp_path / "run.jsonl", LINES)
    with serving(path, "--speed=max", "--pause-at-prompts", f"--origin={ORIGIN}") as (lines, url):
        assert lines[0] == f"{path}: 2 executions, 2 runs, 8 updates, 1.0 s of work, without pauses"
        assert lines[1:3] == ["  a: complete", "  b/c: cut off"]
        addresses = {line[:18].strip(): line[18:].split()[0] for line in lines[3:-1]}
        with SyncClient(url) as client:
            assert [update.text for update in client.subscribe("a") if update.text] == ["It rains."]
            client.respond("b/c", "p", "approve")
            assert [update.type for update in client.subscribe("b/c")][-1] == "workflow_abandoned"
            started = client.start("replay", {"messages": [{"role": "user", "content": "And?"}]})
            assert [update.type for update in started.updates()][-1] == "workflow_complete"
        with httpx.Client(headers={"Origin": ORIGIN}) as http:
            assert http.get(addresses["Page"]).status_code == 200
            found = http.get(addresses["REST"])
            assert found.headers["access-control-allow-origin"] == ORIGIN
            assert found.json()["state"] == "completed"
            durable = http.get(addresses["Durable Streams"])
            assert "It rains." in durable.text


def run(*arguments: str, input: str | None = None) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["replay", *arguments], input=input, env={"COLUMNS": "200"})
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.exit_code, done.stderr


def test_errors_are_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "run.jsonl", [LINES[0], json.dumps({"type": 1})])
    assert run(str(path)) == (1, f"Error: {path}, line 2: not an update: type is a string, not 1\n")
    missing = tmp_path / "missing"
    assert run(str(missing)) == (1, f"Error: {missing} cannot be read: No such file or directory\n")
    assert run(str(path), "--speed=0") == (1, "Error: --speed is a number above 0, or max, not '0'\n")
    assert run(str(path), "--speed=fast") == (1, "Error: --speed is a number above 0, or max, not 'fast'\n")


def test_the_standard_input() -> None:
    code, error = run("-", "--execution-id=b", input="\n".join(LINES))
    assert (code, error) == (1, "Error: the standard input has no execution 'b'; it has 'a', 'b/c'\n")
    assert run("-", input="[]") == (
        1,
        "Error: the standard input, line 1: not an update: an update is an object, not []\n",
    )


def test_the_help_has_examples() -> None:
    done = CliRunner().invoke(app, ["replay", "--help"], env={"COLUMNS": "200"})
    assert "lg-streaming replay run.jsonl --speed 4 --open" in done.stdout


@pytest.mark.parametrize("speed", ["4", "max", "0.5"])
def test_speeds(speed: str) -> None:
    assert parse_speed(speed) == float("inf" if speed == "max" else speed)
