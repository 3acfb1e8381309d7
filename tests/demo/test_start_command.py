"""`python -m lg_streaming start`: start a run on a server, and show it."""

import json
from collections.abc import Generator
from typing import Any

import jwt
import pytest
from typer.testing import CliRunner

from lg_streaming.cli.main import app
from lg_streaming.cli.token import TokenError, TokenRequest, make_token
from lg_streaming.client import SyncClient
from tests.gateway.site import SECRET
from tests.gateway.starts import StartSite, State, bearer, make_graphs, may_start, one_node, start_site


async def _fail(_: State) -> State:
    raise ValueError("broken [red]")


@pytest.fixture(scope="module")
def place() -> Generator[StartSite]:
    with start_site(graphs={**make_graphs(), "fail": one_node("fail", _fail)}) as site:
        yield site


def start(place: StartSite, *arguments: str, token: str | None = None) -> tuple[int, str, str]:
    token = token or bearer("alice", may_start("**", executions=("alice/*",)))
    env = {"COLUMNS": "200", "LG_STREAMING_TOKEN": token}
    done = CliRunner().invoke(app, ["start", "--url", place.url, *arguments], env=env)
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.exit_code, done.stdout, done.stderr


def test_a_run_is_shown_to_its_end(place: StartSite) -> None:
    options = ["--execution-id", "alice/cli", "--config", '{"tags": ["a"]}', "--context", '{"tone": "low"}']
    code, out, err = start(place, "shout", "--input", '{"text": "hi"}', *options)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "Execution alice/cli"
    assert any("started" in line for line in lines)
    assert lines[-2].startswith("Run complete: ")
    assert lines[-1] == 'Result: {"text": "HI"}'


def test_the_exit_code_is_the_outcome(place: StartSite) -> None:
    code, out, _ = start(place, "fail")
    assert code == 1
    assert "broken [red]" in out.splitlines()[-1]
    code, out, _ = start(place, "ask")
    assert code == 3
    assert "Waits for an answer: " in out.splitlines()[-2]
    with SyncClient(place.url, token=bearer("alice")) as client:
        assert client.cancel(out.splitlines()[0].removeprefix("Execution "))


@pytest.mark.parametrize(
    ("arguments", "exit_code", "reason"),
    [
        (["shout", "--input", "{"], 2, "--input is not JSON"),
        (["shout", "--config", "x"], 2, "--config is not JSON"),
        (["shout", "--input", '{"txt": 1}'], 6, "input.txt"),
        (["other"], 6, "no such graph"),
        (["shout", "--execution-id", "bob/1"], 6, "not yours"),
    ],
)
def test_what_cannot_be_started(place: StartSite, arguments: list[str], exit_code: int, reason: str) -> None:
    code, out, err = start(place, *arguments)
    assert (code, out) == (exit_code, "")
    assert reason in err


def test_a_server_that_is_not_there() -> None:
    done = CliRunner().invoke(app, ["start", "x", "--url", "http://127.0.0.1:9"], env={"COLUMNS": "200"})
    assert done.exit_code == 5
    assert "127.0.0.1:9" in done.stderr


def request(**fields: Any) -> TokenRequest:
    return TokenRequest(subject="alice", expires_in=60, secret=SECRET, **fields)


@pytest.mark.parametrize(
    ("fields", "grant"),
    [
        ({"graphs": ("a",)}, {"actions": ["start"], "graphs": ["a"]}),
        ({"graphs": ("a",), "actions": ("start",)}, {"actions": ["start"], "graphs": ["a"]}),
        (
            {"graphs": ("a",), "executions": ("x/*",)},
            {"actions": ["read", "start"], "executions": ["x/*"], "graphs": ["a"]},
        ),
        (
            {"graphs": ("a",), "executions": ("x/*",), "actions": ("control",)},
            {"actions": ["control", "start"], "executions": ["x/*"], "graphs": ["a"]},
        ),
    ],
)
def test_a_token_that_may_start(fields: dict[str, Any], grant: dict[str, Any]) -> None:
    claims = jwt.decode(make_token(request(**fields)), options={"verify_signature": False})
    assert json.loads(json.dumps(claims["lg_streaming"])) == [grant]


@pytest.mark.parametrize("fields", [{"actions": ("start",)}, {"graphs": ("a",), "actions": ("read",)}])
def test_a_token_without_what_an_action_applies_to(fields: dict[str, Any]) -> None:
    with pytest.raises(TokenError, match="give --"):
        make_token(request(**fields))
