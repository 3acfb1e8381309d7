"""`lg-streaming watch`, as a person uses it."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from lg_streaming.events.scope import Scope
from tests.cli.site import ALICE, PATIENCE, cli, new_id, running, start
from tests.gateway.starts import StartSite, bearer
from tests.support.terminal import Terminal, open_terminal

WATCH = ["-m", "lg_streaming", "watch"]


@contextmanager
def watching(*arguments: str, token: str = ALICE) -> Generator[Terminal]:
    with open_terminal(*WATCH, *arguments, env={"LG_STREAMING_TOKEN": token}) as screen:
        yield screen


def shown(line: str) -> str:
    """A line without its time."""
    return re.sub(r"^ *[0-9.]+ s  ", "", line)


def test_a_finished_run_is_shown_whole(place: StartSite) -> None:
    execution_id = start(place, "write")
    done = cli("watch", place.url, execution_id)
    assert (done.code, done.err) == (0, "")
    assert done.lines[0] == f"Execution {execution_id}"
    lines = [shown(line) for line in done.lines]
    assert "work          | The sea is salty." in lines
    assert "work          | Rivers carry minerals." in lines
    assert lines[-2].startswith("Run complete: ")
    assert lines[-1] == 'Result: {"text": "The sea is salty.\\nRivers carry minerals.\\n"}'


@pytest.mark.parametrize(
    ("command", "redirection", "code", "text"),
    [
        ("watch", "2>&1", 0, "\\u65e5\\u672c"),
        ("list", ">/dev/full", 1, "Error: the output cannot be written: No space left on device"),
        ("list", ">&-", 0, ""),
    ],
    ids=["ASCII", "full", "closed"],
)
def test_an_output_that_cannot_take_every_text(
    memory_place: StartSite, command: str, redirection: str, code: int, text: str
) -> None:
    hub, execution_id = memory_place.streaming.hub, new_id()
    hub.open(execution_id, owner="alice")
    hub.publish(execution_id, "token", {"content": "日本"}, scope=Scope(node_id="write"))
    asyncio.run(hub.close(execution_id))
    line = f"{sys.executable} -m lg_streaming {command} {memory_place.url} {execution_id * (command == 'watch')}"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LG_STREAMING_TOKEN": ALICE}
    done = subprocess.run(
        ["/bin/sh", "-c", f"{line} {redirection}"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env=environment,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert text in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_the_exit_code_is_the_outcome(place: StartSite) -> None:
    failed, cancelled = start(place, "fail"), start(place, "endless", until="node_start")
    done = cli("watch", place.url, failed)
    assert (done.code, done.lines[-1]) == (1, "broken [red]\\x1b[2J")
    assert cli("cancel", place.url, cancelled).code == 0
    done = cli("watch", place.url, cancelled)
    assert done.code == 4
    assert any(re.fullmatch(r"work          cancelled after .* s", shown(line)) for line in done.lines)
    assert "failed" not in done.out


def test_only_the_newest_run_of_an_execution_is_shown(place: StartSite) -> None:
    execution_id = start(place, "shout", {"text": "first"})
    start(place, "shout", {"text": "second"}, execution_id=execution_id)
    start(place, "shout", {"text": "third"}, execution_id=execution_id)
    done = cli("watch", place.url, execution_id)
    assert re.findall("FIRST|SECOND|THIRD", done.out) == ["THIRD"]
    assert done.out.count("Run complete") == 1
    done = cli("watch", place.url, execution_id, "--from-start")
    assert re.findall("FIRST|SECOND|THIRD", done.out) == ["FIRST", "SECOND", "THIRD"]
    assert done.out.count("Run complete") == 3


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["alice/1", "--pick"], "--pick"),
        (["--after", "e:1"], "give its ID"),
        (["alice/1", "--after", "soon"], "position"),
        (["alice/1", "--after", "e:1", "--from-start"], "exclude"),
    ],
)
def test_what_cannot_be_watched(memory_place: StartSite, arguments: list[str], reason: str) -> None:
    done = cli("watch", memory_place.url, *arguments)
    assert (done.code, done.out) == (2, "")
    assert reason in done.err


def test_an_execution_is_picked_by_its_number(place: StartSite) -> None:
    first, second = start(place, "shout", {"text": "one"}), start(place, "shout", {"text": "two"})
    done = cli("watch", place.url, "--pick", stdin="0\nx\n2\n")
    assert f"  1  completed  {second}" in done.lines[0]
    assert f"  2  completed  {first}" in done.lines[1]
    assert "ONE" in done.out
    assert done.code == 0
    assert cli("watch", place.url, "--pick").err == "Error: no execution was chosen\n"


def test_without_an_id_the_newest_open_run_or_the_next_one(place: StartSite) -> None:
    with running("watch", place.url, "--plain") as first:
        assert first.read_error_line() == "No run is open. Waiting for the next one.\n"
        waiting = start(place, "choose", until="workflow_interrupted")
        assert first.read_line() == f"Execution {waiting}\n"
        with running("watch", place.url) as second:
            assert second.read_line() == f"Execution {waiting}\n"
            assert cli("respond", place.url, waiting, "publish").code == 0
            for each in (first, second):
                assert each.read_to_end()[-1].startswith("Result: ")
                assert each.process.wait(PATIENCE) == 0


def test_each_run_that_starts_is_followed(memory_place: StartSite) -> None:
    with running("watch", memory_place.url, "--follow") as command:
        assert command.read_error_line() == "No run is open. Waiting for the next one.\n"
        same = new_id()
        runs = {"one": same, "two": new_id(), "three": same}
        for text, name in runs.items():
            start(memory_place, "shout", {"text": text}, execution_id=name)
        # Runs of one execution that have ended by then are shown one after the other.
        results = [command.read_until("Result: ") for _ in runs]
        assert sorted(json.loads(line[8:])["text"] for line in results) == ["ONE", "THREE", "TWO"]
        assert command.interrupt() == 130
        assert command.read_errors().endswith("Stopped watching; the run goes on.\n")


def test_further_runs_of_an_execution_are_followed(place: StartSite) -> None:
    execution_id = start(place, "shout", {"text": "first"})
    with running("watch", place.url, execution_id, "--follow") as command:
        command.read_until("started")
        start(place, "shout", {"text": "second"}, execution_id=execution_id)
        command.read_until('Result: {"text": "FIRST"}')
        assert command.interrupt() == 130
        assert command.read_errors() == "Stopped watching; the run goes on.\n"


def test_ctrl_c_leaves_and_the_run_goes_on(memory_place: StartSite) -> None:
    execution_id = start(memory_place, "endless", until="node_start")
    with watching(memory_place.url, execution_id) as screen:
        screen.read_until("running")
        assert "╭─  work  ─" in screen.seen
        screen.press_ctrl_c()
        seen = screen.read_to_end()
        assert screen.exit_code() == 130
    assert seen.rstrip().endswith("Stopped watching; the run goes on.")
    assert "Traceback" not in seen
    assert cli("cancel", memory_place.url, execution_id).code == 0


def test_a_cancelled_run_is_shown_as_cancelled_in_panels(memory_place: StartSite) -> None:
    execution_id = start(memory_place, "endless", until="node_start")
    with watching(memory_place.url, execution_id) as screen:
        screen.read_until("running")
        assert cli("cancel", memory_place.url, execution_id).code == 0
        seen = screen.read_to_end()
        assert screen.exit_code() == 4
    assert "✗ cancelled · " in seen
    assert "failed" not in seen
    assert "Run cancelled: " in seen


def test_a_reader_without_the_right_to_answer_is_told_so(memory_place: StartSite) -> None:
    execution_id = start(memory_place, "choose", until="workflow_interrupted")
    reader = bearer("bob", {"actions": ["read"], "executions": [execution_id]})
    with watching(memory_place.url, execution_id, token=reader) as screen:
        screen.read_until("‖ Publish?")
        screen.press("1\r")
        screen.read_until("not yours")
        assert cli("respond", memory_place.url, execution_id, "revise").code == 0
        assert "Publish?  → revise (by alice)" in screen.read_to_end()
        assert screen.exit_code() == 0


def test_no_answers_and_plain_lines_on_a_terminal(memory_place: StartSite) -> None:
    execution_id = start(memory_place, "choose", until="workflow_interrupted")
    with watching(memory_place.url, execution_id, "--no-answers") as quiet:
        quiet.read_until("‖ Publish?")
        quiet.press("1\r")
        with watching(memory_place.url, execution_id, "--plain") as plain:
            plain.read_until("asks: Publish?  1 publish  2 revise")
            assert cli("respond", memory_place.url, execution_id, "revise").code == 0
            assert "╭" not in plain.read_to_end()
        assert "> " not in quiet.read_to_end()
        assert quiet.exit_code() == 0


def test_the_session_of_a_newcomer(place: StartSite) -> None:
    """Start a run, list it, watch it, and answer it from another terminal."""
    execution_id = new_id()
    started = cli("start", "essay", "--url", place.url, "--execution-id", execution_id)
    assert started.code == 3
    assert "Waits for an answer: Publish the essay?" in started.out
    answer = next(line for line in started.lines if line.startswith("  lg-streaming respond "))
    assert f"interrupted  {execution_id}" in cli("list", place.url, "--state", "running,interrupted").out
    with watching(f"{place.url}/watch/{execution_id}") as screen:
        screen.read_until("‖ Publish the essay?")
        assert "The sea is salty." in screen.seen
        assert cli(*answer.split()[1:3], execution_id, "yes").code == 0
        seen = screen.read_to_end()
        assert screen.exit_code() == 0
    assert "Publish the essay?  → yes (by alice)" in seen
    assert 'Result: {"text": "The sea is salty.' in seen
    assert f"completed  {execution_id}" in cli("list", place.url, "--text", execution_id).out.replace("    ", "  ")


def test_an_answer_is_typed_while_watching(place: StartSite) -> None:
    execution_id = start(place, "choose", until="workflow_interrupted")
    with watching(place.url, execution_id) as screen:
        screen.read_until("‖ Publish?  1 publish  2 revise")
        screen.press("3\r")
        screen.read_until("> 3▏  type a number from 1 to 2")
        screen.press("\x7f2\r")
        seen = screen.read_to_end()
        assert screen.exit_code() == 0
    assert "Publish?  → revise (by alice)" in seen
