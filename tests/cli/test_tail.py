"""`lg-streaming tail`, and the feed of all executions."""

import asyncio
import contextlib
import io
import json
import threading
from collections import defaultdict
from typing import Any

import anyio
import httpx2
import pytest

from lg_streaming.cli.access import Access
from lg_streaming.cli.feed import Feed
from lg_streaming.cli.update_line import update_line
from tests.cli.site import ALICE, PATIENCE, cli, new_id, running, start
from tests.demo.test_control_codes import CODES, is_hidden, updates_with
from tests.gateway.starts import StartSite, bearer
from tests.support.tcp_proxy import tcp_proxy

EVERYTHING = bearer("root", {"actions": ["read"], "executions": ["**"]})


def raw_updates(place: StartSite, execution_id: str) -> list[dict[str, Any]]:
    response = httpx2.get(
        f"{place.url}/executions/{execution_id}/updates?limit=1000", headers={"Authorization": f"Bearer {ALICE}"}
    )
    return response.json()["updates"]


def test_json_lines_are_the_updates_of_the_wire(place: StartSite) -> None:
    execution_id = start(place, "write")
    done = cli("tail", place.url, execution_id, "--json")
    assert (done.code, done.err) == (0, "")
    expected = raw_updates(place, execution_id)
    assert [json.loads(line) for line in done.lines] == expected
    after = f"{expected[3]['metadata']['epoch']}:{expected[3]['metadata']['sequence_number']}"
    done = cli("tail", f"{place.url}/watch/{execution_id}", "--json", "--after", after)
    assert [json.loads(line) for line in done.lines] == expected[4:]


def test_lines_have_time_node_type_and_data(place: StartSite) -> None:
    execution_id = start(place, "write")
    done = cli("tail", place.url, execution_id, "--events", "token,workflow_*", "--node", "work")
    assert {line.split("  ")[1:3] == ["work", "token"] for line in done.lines} == {True}
    text = "".join(json.loads(line.split("  ", 3)[3]) for line in done.lines)
    assert text == "The sea is salty.\nRivers carry minerals.\n"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["alice/1", "--after", "yesterday"], "position"),
        (["alice/1", "--events", "x" * 300], "256"),
        (["--after", "e:1"], "give its ID"),
    ],
)
def test_what_cannot_be_tailed(memory_place: StartSite, arguments: list[str], reason: str) -> None:
    done = cli("tail", memory_place.url, *arguments)
    assert (done.code, done.out) == (2, "")
    assert reason in done.err


@pytest.mark.parametrize("code", CODES, ids=range(len(CODES)))
def test_no_control_code_of_an_update_is_printed(code: str) -> None:
    from lg_streaming.cli import tail

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        for update in updates_with(code.replace("\ud83d", "").replace("\udc00", "")):
            for as_json in (True, False):
                tail.print_update(update, as_json=as_json, with_execution=True)
    assert [hex(ord(letter)) for letter in out.getvalue() if is_hidden(letter)] == []


def test_a_line_holds_one_update_however_long() -> None:
    update = updates_with("x\ny")[3]
    update["data"] = {"content": "a\n" * 5_000}
    assert len(update_line(update, with_execution=True)) < 2_200


def test_a_reader_who_has_read_enough_is_no_error(memory_place: StartSite) -> None:
    execution_id = start(memory_place, "write")
    with running("tail", memory_place.url, execution_id, "--json", "--follow") as command:
        assert json.loads(command.read_line())["type"] == "workflow_start"
        assert command.process.stdout is not None
        command.process.stdout.close()
        start(memory_place, "write", execution_id=execution_id)
        assert command.read_errors() == ""
        assert command.process.wait(PATIENCE) == 0


def test_all_executions_until_ctrl_c(place: StartSite) -> None:
    hub, ready = place.streaming.hub, new_id()
    hub.open(ready, owner="alice")
    with running("tail", place.url, "--json", "--events", "workflow_complete,ready") as command:
        reader = threading.Thread(target=command.read_line)
        reader.start()
        while reader.is_alive():  # until the subscription has begun
            hub.publish(ready, "ready", {})
            reader.join(0.05)
        assert cli("cancel", place.url, ready).code == 0
        execution_id = start(place, "shout")
        assert json.loads(command.read_until(execution_id))["type"] == "workflow_complete"
        assert command.interrupt() == 130
        assert command.read_errors() == ""


async def test_a_feed_loses_and_repeats_nothing_over_lost_connections(place: StartSite) -> None:
    hub, said = place.streaming.hub, list[str]()
    expected, seen = defaultdict[str, int](int), defaultdict[str, list[int]](list)
    names = [new_id() for _ in range(6)]
    mark = f"feed-{names[0]}"

    def publish(count: int, times: int = 1) -> None:
        """Publish in the first executions."""
        for name in names[:count] * times:
            expected[name] += 1
            hub.publish(name, mark, {"number": expected[name]})

    async with tcp_proxy(place.server.port) as proxy:
        access = Access.of(f"http://{proxy.host}:{proxy.port}", token=EVERYTHING)
        feed = Feed(access, {"events": [mark]}, announce=said.append)
        await feed.connect()

        async def read() -> None:
            async with contextlib.aclosing(feed.updates()) as updates:
                async for update in updates:
                    seen[update["metadata"]["execution_id"]].append(update["data"]["number"])

        reading = asyncio.create_task(read())
        for outage in range(3):
            known = 2 * (outage + 1)  # each outage has executions that were not seen before
            publish(known, times=30)
            proxy.reset()
            with anyio.fail_after(PATIENCE):
                while said.count("Connected again.") <= outage:  # some come live, and are read from the log, too
                    publish(known)
                    await asyncio.sleep(0.005)
                publish(known, times=30)
                while {name: len(numbers) for name, numbers in seen.items()} != dict(expected):
                    await asyncio.sleep(0.02)
        reading.cancel()
        await asyncio.wait({reading})
    assert dict(seen) == {name: list(range(1, count + 1)) for name, count in expected.items()}
    assert said.count("Connected again.") == 3
