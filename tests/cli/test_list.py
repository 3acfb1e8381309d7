"""`lg-streaming list`."""

import json
import time
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from lg_streaming import StreamingModule
from lg_streaming.client import SyncClient
from lg_streaming.errors import BadRequestError
from lg_streaming.gateway.protocol.responses import json_response
from tests.cli.site import ALICE, BOB, PATIENCE, Done, cli, new_id, running, start
from tests.demo.test_control_codes import is_hidden
from tests.gateway.starts import StartSite
from tests.support.server import serve
from tests.support.terminal import open_terminal


def listed(place: StartSite, *arguments: str, token: str = ALICE) -> Done:
    done = cli("list", place.url, *arguments, token=token)
    assert (done.code, done.err.replace("No execution that you may read fits.\n", "")) == (0, "")
    return done


def ids(done: Done) -> list[str]:
    return [json.loads(line)["execution_id"] for line in done.lines]


def test_executions_are_listed_newest_first(place: StartSite) -> None:
    started = [start(place, graph) for graph in ("shout", "fail", "shout")]
    waiting = start(place, "choose", until="workflow_interrupted")
    assert ids(listed(place, "--json"))[:4] == [waiting, *reversed(started)]
    assert ids(listed(place, "--json", "--limit", "2")) == [waiting, started[2]]
    assert ids(listed(place, "--json", "--state", "failed", "--limit", "1")) == [started[1]]
    assert set(ids(listed(place, "--json", "--state", "interrupted,failed"))) >= {waiting, started[1]}
    assert ids(listed(place, "--json", "--text", started[0].upper())) == [started[0]]
    assert ids(listed(place, "--json", "--owner", "bob")) == []
    assert ids(listed(place, "--json", token=BOB)) == []
    state = next(json.loads(line) for line in listed(place, "--json").lines)
    assert state["state"] == "interrupted"


def test_the_table_has_a_line_for_each(place: StartSite) -> None:
    done_id, waiting = start(place, "shout"), start(place, "choose", until="workflow_interrupted")
    header, first, second = listed(place, "--limit", "2").lines
    assert header.split()[:2] == ["state", "id"]
    assert header.split()[-4:] == ["duration", "progress", "tokens", "cost"]
    assert first.split()[:2] == ["interrupted", waiting]
    assert second.split()[:2] == ["completed", done_id]
    assert "100 %" in second


def test_nothing_that_fits_is_said_on_the_standard_error(memory_place: StartSite) -> None:
    done = cli("list", memory_place.url, "--text", "nowhere to be found")
    assert (done.code, done.out, done.err) == (0, "", "No execution that you may read fits.\n")


@pytest.mark.parametrize("arguments", [["--state", "resting"], ["--limit", "0"], ["--limit", "x"]])
def test_what_cannot_be_listed(memory_place: StartSite, arguments: list[str]) -> None:
    done = cli("list", memory_place.url, *arguments)
    assert done.code in (2, 6)
    assert done.out == ""


HOSTILE = "\x1b[2J\x9b2J\u202egnp\u2066 [red]bold[/red]\x00\u2028"


def test_a_hostile_title_stays_text(place: StartSite) -> None:
    execution_id = new_id()
    with SyncClient(place.url, token=ALICE) as client:
        run = client.start("shout", {}, execution_id=execution_id, metadata={"title": HOSTILE})
        with run.updates(timeout=PATIENCE) as updates:
            list(updates)
        title = client.execution(execution_id)["title"]
    assert "[red]bold[/red]" in title
    table, lines = listed(place, "--text", execution_id), listed(place, "--text", execution_id, "--json")
    picked = cli("watch", place.url, "--pick", stdin="1\n")
    assert "[red]bold[/red]" in table.out
    assert json.loads(lines.out)["title"] == title
    for done in (table, lines, picked):
        assert [hex(ord(letter)) for letter in done.out if is_hidden(letter)] == []


class OlderServer:
    """A server that refuses orders and texts, and does not know titles."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and {"order", "text"} & set(Request(scope).query_params):
            refusal = json_response({"error": BadRequestError("order is not an option").to_dict()}, 400)
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)


def test_an_older_server_is_sorted_and_searched_here() -> None:
    streaming = StreamingModule({"auth": {"enabled": False}})
    app = FastAPI()
    app.add_middleware(OlderServer)
    streaming.install(app)
    names = ["b", "a", "c"]
    with serve(app) as server:
        for name in names:
            streaming.hub.publish(name, "token", {"content": "x"})
            time.sleep(0.002)  # starts have milliseconds
        assert ids(cli("list", server.url, "--json", token=None)) == ["c", "a", "b"]
        assert ids(cli("list", server.url, "--json", "--limit", "1", token=None)) == ["c"]
        assert ids(cli("list", server.url, "--json", "--text", "A", token=None)) == ["a"]


def test_changes_are_shown_until_ctrl_c(place: StartSite) -> None:
    execution_id = start(place, "choose", until="workflow_interrupted")
    with running("list", place.url, "--watch", "--json", "--text", execution_id) as command:
        assert json.loads(command.read_line())["state"] == "interrupted"
        assert cli("respond", place.url, execution_id, "publish").code == 0
        command.read_until('"completed"')
        assert command.interrupt() == 130
        assert command.read_errors() == ""


def test_a_table_is_kept_up_to_date_on_a_terminal(memory_place: StartSite) -> None:
    execution_id = start(memory_place, "choose", until="workflow_interrupted")
    command = ["-m", "lg_streaming", "list", memory_place.url, "--watch", "--text", execution_id]
    with open_terminal(*command, env={"LG_STREAMING_TOKEN": ALICE}) as screen:
        screen.read_until("interrupted")
        assert cli("cancel", memory_place.url, execution_id).code == 0
        screen.read_until("cancelled")
        screen.press_ctrl_c()
        assert "Traceback" not in screen.read_to_end()
        assert screen.exit_code() == 130
