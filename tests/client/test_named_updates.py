"""An event stream with updates named by type, by kind or unnamed, alone or in lists."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from lg_streaming.client import SSEClient
from tests.client.conftest import Heard, Place, read_all, seqs
from tests.client.test_nonsense import END, frame, stream_of, update
from tests.support.server import serve

CONTROLS = ["gap", "end", "error", "server_restart", "timeout", "connection_status", "initial", "updates", "message"]
TYPES = ["token", "progress", "node_start", "agent:output:stdout", "my-own.type", *CONTROLS]


def typed(seq: int, type: str) -> dict[str, Any]:
    return {**update(seq), "type": type}


def named(content: dict[str, Any], name: str) -> str:
    """As the server writes it: with the position as the id."""
    metadata = content["metadata"]
    return f"id: {metadata['epoch']}:{metadata['sequence_number']}\n" + frame(content, name)


NAMES: dict[str, Callable[[str], str]] = {
    "by type": lambda name: name,
    "by kind": lambda _: "event",
    "by another kind": lambda _: "token",
    "not at all": lambda _: "",
    "by what is not known": lambda _: "stream_update",
}


@pytest.mark.parametrize("name", NAMES)
async def test_updates_are_read_however_they_are_named(name: str) -> None:
    wire = "".join(named(typed(seq, each), NAMES[name](each)) for seq, each in enumerate(TYPES, 1))
    app, _ = stream_of(wire + END)
    with serve(app) as server:
        async with SSEClient(server.url) as client:
            heard = Heard(client)
            updates = await read_all(client)
            assert [each.type for each in updates] == TYPES
            assert seqs(updates) == list(range(1, len(TYPES) + 1))
            assert {"error", "gap", "parse_error", "initial"}.isdisjoint(heard.names)


@pytest.mark.parametrize("name", ["updates", "", "token", "gap"])
async def test_lists_are_read_however_they_are_named(name: str) -> None:
    app, _ = stream_of(frame([update(1), update(2)], name) + frame([update(3)], name) + frame([], name) + END)
    with serve(app) as server:
        async with SSEClient(server.url) as client:
            assert seqs(await read_all(client)) == [1, 2, 3]


async def test_all_ways_in_one_stream() -> None:
    wire = named(update(1), "token") + named(update(2), "") + frame([update(3), update(4)], "updates")
    wire += frame({"of": "a later version"}, "news") + named(typed(5, "error"), "error") + named(update(6), "token")
    app, _ = stream_of(wire + END)
    with serve(app) as server:
        async with SSEClient(server.url) as client:
            assert seqs(await read_all(client)) == [1, 2, 3, 4, 5, 6]


async def test_what_an_application_shows_first_may_look_like_an_update() -> None:
    app, _ = stream_of(frame(update(9), "initial") + named(update(1), "token") + END)
    with serve(app) as server:
        async with SSEClient(server.url) as client:
            heard = Heard(client)
            assert seqs(await read_all(client)) == [1]
            assert [event.data["metadata"]["sequence_number"] for event in heard.of("initial")] == [9]


async def test_a_broken_update_under_the_name_of_a_kind_is_told() -> None:
    app, _ = stream_of(frame({"type": "token"}, "token") + named(update(1), "token") + END)
    with serve(app) as server:
        async with SSEClient(server.url) as client:
            heard = Heard(client)
            assert seqs(await read_all(client)) == [1]
            assert len(heard.of("parse_error")) == 1


@pytest.mark.parametrize("query", ["named=true", "named=true&batch=true", "named=false", "batch=true"])
async def test_what_a_gateway_sends_for_any_query(place: Place, query: str) -> None:
    """The real server's words, in each form, as one answer of a stand-in."""
    for each in TYPES:
        if each not in {"gap", "end", "updates", "message"}:
            place.hub.publish("e", each, {"content": "x", "index": 0})
    await place.hub.close("e")
    async with httpx2.AsyncClient() as http:
        text = (await http.get(f"{place.url}/executions/e/stream?{query}")).text
    wire = text.partition("\n\n")[2]  # without the greeting, which the stand-in sends
    app, _ = stream_of(wire)
    with serve(app) as server:
        async with SSEClient(server.url) as client, SSEClient(place.url) as direct:
            stored = await read_all(direct)
            assert [json.dumps(each.data) for each in await read_all(client)] == [
                json.dumps(each.data) for each in stored
            ]
