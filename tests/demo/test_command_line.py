"""``python -m lg_streaming``, as a user starts it."""

from __future__ import annotations

import io
import json
import re
import subprocess
from contextlib import AbstractContextManager

import httpx2
import pytest
from pydantic import SecretStr
from rich.console import Console
from typer.testing import CliRunner

import lg_streaming
from lg_streaming import StreamingModule, StreamingSettings
from lg_streaming.cli import demo
from lg_streaming.cli.main import app
from lg_streaming.demo.server import run_server
from lg_streaming.serving.listener import AddressInUseError, listen
from lg_streaming.settings import AuthSettings
from lg_streaming.testing import ScriptedChatModel
from tests.support import warm
from tests.support.server import free_socket
from tests.support.terminal import Terminal, open_terminal

COMMANDS = ["demo", "start", "watch", "list", "tail", "respond", "cancel", "token", "schema", "version"]
DEMO = ["-m", "lg_streaming", "demo", "--port=0"]


def terminal(*arguments: str, fresh: bool = False) -> AbstractContextManager[Terminal]:
    return open_terminal(*DEMO, *arguments, fresh=fresh)


def run(*arguments: str, fresh: bool = False) -> subprocess.CompletedProcess[str]:
    return warm.run(*DEMO, *arguments, fresh=fresh)


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_every_command_has_help(command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_version() -> None:
    assert CliRunner().invoke(app, ["version"]).output == f"{lg_streaming.__version__}\n"


def test_the_routes_are_described_as_openapi() -> None:
    schema = json.loads(CliRunner().invoke(app, ["schema", "--openapi"]).output)
    assert schema["openapi"].startswith("3.1")
    assert "/executions/{execution_id}/updates" in schema["paths"]


def test_the_schema_is_json_schema_of_every_message() -> None:
    schema = json.loads(CliRunner().invoke(app, ["schema"]).output)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert "subscribe_execution" in json.dumps(schema)


def test_the_demo_in_plain_lines() -> None:
    done = run("--once", "--speed=200", fresh=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert lines[0] == "How can a city stay cool in summer without more air conditioning?"
    assert re.fullmatch(r"Watch in a browser: http://127\.0\.0\.1:\d+/watch/demo-[0-9a-f]{6}", lines[1])
    assert any("research #3   search_library(" in line for line in lines)
    assert any("approve       answer: discard (no answer in time)" in line for line in lines)
    assert any("write #2      | None of the three needs power to run." in line for line in lines)
    assert re.fullmatch(r"Run complete: \d{2,4} updates, 648 tokens, first token after .*", lines[-1])


def test_a_question_of_ones_own_without_a_page() -> None:
    done = run("--once", "--speed=200", "--no-watch", "--question", "Are [red]planted[/red] roofs good?")
    assert done.returncode == 0
    assert done.stdout.startswith("Are [red]planted[/red] roofs good?\n\n")
    assert "/watch/" not in done.stdout


def test_the_demo_in_a_terminal() -> None:
    with terminal("--once", "--speed=50") as screen:
        screen.read_until("‖ Publish the report?  1 publish  2 revise  3 discard")
        screen.press("4\r")
        screen.read_until("> 4▏  type a number from 1 to 3")
        screen.press("\x7f2\r")
        screen.read_until("‖ What should be changed?")
        screen.press("Nörgel\r")
        screen.read_until("‖ Publish the report?")
        screen.press("publish\r")
        seen = screen.read_to_end()
        assert screen.exit_code() == 0
    assert "╭─  research #3  ─" in seen
    assert "Publish the report?  → revise (by the terminal)" in seen
    assert "What should be changed?  → Nörgel (by the terminal)" in seen
    assert "Publish the report?  → publish (by the terminal)" in seen
    assert "adds what the editor asked for: Nörgel" in seen
    assert "Run complete: " in seen
    assert "Traceback" not in seen


def test_an_answer_on_the_page_counts_in_the_terminal() -> None:
    with terminal("--once", "--speed=100") as screen:
        seen = screen.read_until("‖ Publish the report?").replace("\r\n", "")
        found = re.search(r"(http://127\.0\.0\.1:\d+)/watch/(demo-[0-9a-f]{6})", seen)
        assert found is not None
        screen.press("3")
        execution = f"{found[1]}/executions/{found[2]}"
        updates = httpx2.get(f"{execution}/updates", params={"events": "human_prompt"}).json()["updates"]
        answer = {"prompt_id": updates[0]["data"]["prompt_id"], "response": "publish"}
        assert httpx2.post(f"{execution}/responses", json=answer).status_code == 200
        seen = screen.read_to_end()
        assert screen.exit_code() == 0
    assert "Publish the report?  → publish" in seen
    assert "publish (by" not in seen


def test_ctrl_c_in_the_middle_of_a_run_cancels_it_and_again_ends_the_program() -> None:
    with terminal("--speed=1", fresh=True) as screen:
        screen.read_until("running")
        screen.press_ctrl_c()
        screen.read_until("until Ctrl-C.")
        assert "Run cancelled: " in screen.seen
        screen.press_ctrl_c()
        seen = screen.read_to_end()
        assert screen.exit_code() == 130
    assert seen.rstrip().endswith("Stopped.")
    assert "Traceback" not in seen


def test_ctrl_c_cancels_a_run_that_waits_for_an_answer() -> None:
    with terminal("--once", "--speed=100") as screen:
        screen.read_until("‖ Publish the report?")
        screen.press_ctrl_c()
        seen = screen.read_to_end()
        assert screen.exit_code() == 130
    assert "Publish the report?  → not answered" in seen
    assert "Run cancelled: " in seen
    assert "Traceback" not in seen


def test_the_page_stays_until_ctrl_c() -> None:
    with terminal("--keep-open", "--speed=100") as screen:
        screen.read_until("‖ Publish the report?")
        screen.press("1\r")
        seen = screen.read_until("until Ctrl-C.")
        address = re.findall(r"Still served at (http\S+)", seen.replace("\r\n", ""))[0]
        assert httpx2.get(address).status_code == 200
        screen.press_ctrl_c()
        assert "Traceback" not in screen.read_to_end()
        assert screen.exit_code() == 0


def test_a_reader_of_the_output_who_leaves_is_no_error() -> None:
    with warm.start(*DEMO, "--once", "--speed=50") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""


def test_a_model_that_cannot_be_had_is_one_clear_line() -> None:
    done = run("--model", "ollama:gpt-5-mini")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: --model ollama:gpt-5-mini cannot be used:")
    assert "langchain-ollama" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_one_clear_line() -> None:
    with free_socket() as taken:
        taken.listen()
        port = taken.getsockname()[1]
        done = run(f"--port={port}")
    assert (done.returncode, done.stderr) == (1, f"Error: cannot listen on 127.0.0.1:{port}: Address already in use\n")


@pytest.mark.parametrize("arguments", [["--speed=0"], ["--port=70000"], ["--port=x"], ["--nothing"]])
def test_nonsense_is_refused(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, ["demo", *arguments]).exit_code == 2


def test_a_free_port_is_found_when_the_usual_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with free_socket() as taken:
        taken.listen()
        monkeypatch.setattr("lg_streaming.serving.listener.DEFAULT_PORT", taken.getsockname()[1])
        with listen("127.0.0.1", None) as found:
            assert found.getsockname()[1] not in (0, taken.getsockname()[1])


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(AddressInUseError, match=r"cannot listen on 192\.0\.2\.1:0"):
        listen("192.0.2.1", 0)


def options(**changes: object) -> demo.DemoOptions:
    fixed = {"question": "Why?", "model": None, "host": "127.0.0.1", "port": 0, "speed": 500, "watch": True}
    return demo.DemoOptions(**{**fixed, "keep_open": False, **changes})  # pyright: ignore[reportArgumentType]


async def test_a_run_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = ScriptedChatModel(answers=["one two three"], fail_after=2, error=ConnectionError("no route to the model"))

    def make_broken(_name: str | None, *, speed: float) -> ScriptedChatModel:
        return broken

    monkeypatch.setattr(demo, "make_model", make_broken)
    out = io.StringIO()
    with pytest.raises(demo.DemoError, match="the run failed: no route to the model"):
        await demo.run_demo(options(), Console(file=out))
    assert "plan          failed after" in out.getvalue()
    assert "Run failed: " in out.getvalue()


async def test_without_aiohttp_the_package_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_is_installed(_name: str) -> None:
        return None

    monkeypatch.setattr(demo, "find_spec", nothing_is_installed)
    with pytest.raises(demo.DemoError, match=r"aiohttp: pip install 'lg-streaming\[demo\]'"):
        await demo.run_demo(options(), Console(file=io.StringIO()))


async def test_a_server_that_is_not_there_is_said_so() -> None:
    with free_socket() as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(demo.DemoError, match="no connection to http://127"):
            async with demo.subscribe(url, "exec-1"):
                pytest.fail("connected to nothing")


async def test_a_refused_subscription_is_said_so() -> None:
    streaming = StreamingModule()
    streaming.hub.open("exec-1", owner="alice")
    async with run_server(demo.make_app(streaming, watch=False), host="127.0.0.1", port=0) as url:
        with pytest.raises(demo.DemoError, match="refused the subscription"):
            async with demo.subscribe(url, "bad id"):
                pytest.fail("subscribed to what is not ours")


async def test_a_server_that_refuses_us_is_said_so() -> None:
    settings = StreamingSettings(
        auth=AuthSettings(enabled=True, secret=SecretStr("long enough to be a secret of HS256"))
    )
    async with run_server(demo.make_app(StreamingModule(settings), watch=False), host="127.0.0.1", port=0) as url:
        with pytest.raises(demo.DemoError, match="token"):
            async with demo.subscribe(url, "exec-1"):
                pytest.fail("let in without a token")
