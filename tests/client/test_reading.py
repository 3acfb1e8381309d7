"""Reading from a real server is the same over Server-Sent Events and over Socket.IO."""

from __future__ import annotations

import asyncio
import logging
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from reactivex import operators as ops

from lg_streaming.errors import (
    BadPositionError,
    BadRequestError,
    ConnectionLostError,
    ForbiddenError,
    GapError,
    PromptError,
    StreamingError,
)
from lg_streaming.events import Position, Scope, StreamUpdate
from tests.client.conftest import OPEN, PATIENCE, Heard, Make, Place, place_with, read_all, seqs
from tests.gateway.site import site


async def take(updates: Any, count: int) -> list[StreamUpdate]:
    taken: list[StreamUpdate] = []
    async with asyncio.timeout(PATIENCE):
        async for update in updates:
            taken.append(update)
            if len(taken) == count:
                break
    return taken


# ---------------------------------------------------------------- order and end
@pytest.mark.row("PYEV-22")
async def test_a_run_from_its_start_to_its_end(place: Place, make: Make) -> None:
    place.tokens("e", 500)
    client = make(place.url)
    reading = asyncio.create_task(read_all(client))
    heard = Heard(client)
    await heard.until("connected")
    place.tokens("e", 500, start=500)
    await place.hub.close("e")
    updates = await reading
    assert seqs(updates) == list(range(1, 1003))
    assert updates[0].type == "workflow_start"
    assert "".join(each.data["content"] for each in updates[1:-1]) == "".join(f"t{n} " for n in range(1000))
    assert updates[-1].type == "workflow_complete"
    assert heard.of("error") == heard.of("gap") == heard.of("parse_error") == []


@pytest.mark.parametrize("batch", [True, False])
async def test_updates_are_the_same_as_in_the_servers_process(place: Place, make: Make, *, batch: bool) -> None:
    emitter = place.hub.emitter("e", node_id="write", agent_type="writer", task_id="t1")
    emitter.event("custom", {"n": [1, None, "ä"]}, priority="high")
    emitter.event("note", "just text")
    emitter.event("list", [1, 2])
    await place.hub.close("e")
    ours = [update async for update in place.hub.subscribe("e")]
    assert await read_all(make(place.url), batch=batch) == ours


async def test_batches_hold_what_came_together(place: Place, make: Make) -> None:
    place.tokens("e", 300)
    await place.hub.close("e")
    subscription = make(place.url).subscribe("e")
    batches = [batch async for batch in subscription.batches()]
    assert [seq for batch in batches for seq in seqs(batch)] == list(range(1, 303))
    assert len(batches) < 100
    assert subscription.position == batches[-1][-1].position


async def test_a_reader_that_follows_stays_for_the_next_run(place: Place, make: Make) -> None:
    client = make(place.url)
    heard = Heard(client)
    reading = asyncio.create_task(take(client.subscribe("e", follow=True), 10))
    await heard.until("connected")
    for _ in range(2):
        place.hub.open("e")
        place.tokens("e", 3)
        await place.hub.close("e")
    updates = await reading
    assert seqs(updates) == list(range(1, 11))
    assert [each.type for each in updates] == ["workflow_start", *["token"] * 3, "workflow_complete"] * 2


async def test_several_executions_at_once(place: Place, make: Make) -> None:
    client = make(place.url)
    names = [f"acme/run {n}".replace(" ", "-") for n in range(8)]
    for name in names:
        place.tokens(name, 50)
    reading = [asyncio.create_task(read_all(client, name)) for name in names]
    heard = Heard(client)
    await heard.until("connected")
    for name in names:
        place.tokens(name, 50, start=50)
        await place.hub.close(name)
    for name, updates in zip(names, await asyncio.gather(*reading), strict=True):
        assert {each.metadata.execution_id for each in updates} == {name}
        assert seqs(updates) == list(range(1, 103))


# ---------------------------------------------------------------- what is wanted
@pytest.mark.row("CFLOW-35")
@pytest.mark.row("CFLOW-D8")
@pytest.mark.parametrize(
    ("wanted", "types"),
    [
        ({"events": ["token"]}, ["token", "thinking"]),
        ({"events": ["task:*"]}, ["task:a b&c=d", "task:ä/?#%"]),
        ({"events": ["task:a b&c=d"]}, ["task:a b&c=d"]),
        ({"node_ids": ["n&1"]}, ["noted"]),
        ({"categories": ["c=1"]}, ["sorted"]),
        ({"min_priority": "critical"}, ["urgent"]),
        ({"until": datetime.now(UTC) - timedelta(days=1)}, []),
        (
            {"since": datetime.now(UTC) - timedelta(days=1), "events": ["urgent", "noted"]},
            ["noted", "urgent"],
        ),
    ],
)
async def test_filters_arrive_as_they_were_meant(
    place: Place, make: Make, wanted: dict[str, Any], types: list[str]
) -> None:
    hub = place.hub
    for name in ("token", "thinking", "task:a b&c=d", "task:ä/?#%"):
        hub.publish("e", name, {"content": ""})
    hub.emitter("e", node_id="n&1").event("noted", {})
    hub.emitter("e", category="c=1").event("sorted", {})
    hub.emitter("e").event("urgent", {}, priority="critical")
    await hub.close("e")
    assert [each.type for each in await read_all(make(place.url), **wanted)] == types


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        ({"events": "token"}, BadRequestError),
        ({"events": [""]}, BadRequestError),
        ({"min_priority": "huge"}, BadRequestError),
        ({"after": "nonsense"}, BadPositionError),
        ({"on_gap": "ignore"}, BadRequestError),
        ({"since": datetime(2026, 1, 1)}, BadRequestError),  # noqa: DTZ001
    ],
)
async def test_a_wish_that_cannot_be_is_refused_at_once(make: Make, wanted: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        make("http://127.0.0.1:1").subscribe("e", **wanted)
    with pytest.raises(BadRequestError):
        make("http://127.0.0.1:1").subscribe("two words")


async def test_from_a_position_and_from_now_on(place: Place, make: Make) -> None:
    place.tokens("e", 10)
    client = make(place.url)
    some = await take(client.subscribe("e"), 5)
    heard = Heard(client)
    reading = asyncio.create_task(read_all(make(place.url), after=some[-1].position))
    latest = make(place.url).subscribe("e", after="latest")
    await latest.connect()
    await place.hub.close("e")
    assert seqs(await reading) == list(range(6, 13))
    assert seqs(await take(latest, 2)) == [12]
    assert heard.of("error") == []


async def test_leaving_in_the_middle_keeps_the_place(place: Place, make: Make) -> None:
    place.tokens("e", 100)
    await place.hub.close("e")
    client = make(place.url)
    got, after = list[int](), None
    for _ in range(4):
        subscription = client.subscribe("e", after=after)
        got += seqs(await take(subscription, 30))
        after = subscription.position
    assert got == list(range(1, 103))
    assert await read_all(client, after=after) == []


# ---------------------------------------------------------------- listeners
NAMES = [
    "token",
    "notification",
    "message",
    "end",
    "error",
    "gap2",
    "connected",
    "initial",
    "timeout",
    "updates",
    "a b",
]


@pytest.mark.row("CFLOW-38")
@pytest.mark.row("CFLOW-D8")
async def test_updates_of_every_name_are_heard(place: Place, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    for name in NAMES:
        place.hub.publish("e", name, {"message": name})
    await place.hub.close("e")
    client = make(place.url)
    everything, some = list[str](), list[Any]()

    def broken(_: object) -> None:
        raise ValueError("a listener's own mistake")

    client.on_update(broken)
    client.on("*", broken)
    client.on_update(lambda update: everything.append(update.type))
    remove = client.on_update(lambda update: some.append(update.data), events=["notification"])
    with caplog.at_level(logging.CRITICAL, "lg_streaming.client.events"):
        updates = await read_all(client)
    assert everything == [each.type for each in updates] == ["workflow_start", *NAMES, "workflow_complete"]
    assert some == [{"message": "notification"}]
    remove()
    remove()
    with caplog.at_level(logging.CRITICAL, "lg_streaming.client.events"):
        await read_all(client)
    assert len(some) == 1
    assert client.statistics().updates == 2 * len(updates)


async def test_a_listener_is_a_plain_function_of_a_known_event(make: Make) -> None:
    client = make("http://127.0.0.1:1")

    async def later(_: object) -> None: ...

    with pytest.raises(TypeError, match="plain function"):
        client.on("connected", later)
    with pytest.raises(ValueError, match="parse_error"):
        client.on("conected", print)


# ---------------------------------------------------------------- requests
@pytest.mark.row("CFLOW-39")
@pytest.mark.row("CFLOW-D8")
async def test_headers_of_our_own_are_sent(place: Place, make: Make) -> None:
    place.tokens("e", 1)
    await place.hub.close("e")
    client = make(place.url, headers={"X-Tenant": "acme", "Cookie": "sid=1; theme=dark"})
    await read_all(client)
    await client.execution("e")
    assert [request.get("x-tenant") for request in place.requests] == ["acme", "acme"]
    assert [request.get("cookie") for request in place.requests] == ["sid=1; theme=dark"] * 2
    client.configure(headers={"X-Tenant": "other"})
    await client.execution("e")
    assert place.requests[-1]["x-tenant"] == "other"


@pytest.mark.row("CFLOW-40")
async def test_options_may_change_and_figures_are_told(place: Place, make: Make) -> None:
    place.tokens("e", 10)
    client = make(place.url)
    subscription = client.subscribe("e")
    assert (subscription.state, subscription.connected, subscription.position) == ("disconnected", False, None)
    taken = await take(subscription, 4)
    assert subscription.position == taken[-1].position == Position(taken[0].metadata.epoch, 4)
    figures = client.statistics()
    assert (figures.connections, figures.duplicates, figures.gaps, figures.parse_errors) == (1, 0, 0, 0)
    with pytest.raises(ValueError, match="jitter"):
        client.configure(jitter=7)
    client.configure(auto_reconnect=False)


@pytest.mark.row("CFLOW-36")
async def test_connecting_twice_is_connecting_once(place: Place, make: Make) -> None:
    place.tokens("e", 1)
    client = make(place.url)
    heard = Heard(client)
    subscription = client.subscribe("e")
    for _ in range(3):
        await subscription.connect()
    await place.hub.close("e")
    assert seqs([update async for update in subscription]) == [1, 2, 3]
    assert heard.names.count("connecting") == 1
    assert client.statistics().connections == 1


async def test_answers_and_the_end_of_a_run(place: Place, make: Make) -> None:
    place.tokens("e", 1)
    client = make(place.url)
    with pytest.raises(PromptError):
        await client.respond("e", "p1", {"ok": True})
    page = await client.executions(state=["running"])
    assert [each["execution_id"] for each in page["executions"]] == ["e"]
    assert (await client.execution("e"))["state"] == "running"
    await place.hub.close("e")
    assert await client.cancel("e", reason="enough") is False
    with pytest.raises(ForbiddenError):
        await client.execution("unknown")


async def test_a_prompt_is_answered_and_a_run_cancelled_from_afar(place: Place, make: Make) -> None:
    answers: list[tuple[str, object]] = []
    place.hub.on_response("e", lambda prompt_id, response: answers.append((prompt_id, response)))
    client = make(place.url)
    place.hub.emitter("e", node_id="approve").human_prompt("Send it?", type="approval", prompt_id="p1")
    seen: list[str] = []
    async for update in client.subscribe("e"):
        seen.append(update.type)
        if update.type == "human_prompt":
            await client.respond("e", update.data["prompt_id"], {"ok": True})
        elif update.type == "human_response":
            assert update.data == {"prompt_id": "p1", "response": {"ok": True}}
            assert await client.cancel("e", reason="enough") is True
    assert answers == [("p1", {"ok": True})]
    assert seen == ["workflow_start", "human_prompt", "human_response", "workflow_cancelled"]
    with pytest.raises(PromptError):
        await client.respond("e", "p1", "too late")


async def test_the_text_of_a_run(place: Place, make: Make) -> None:
    def write(text: str, **scope: Any) -> None:
        emitter = place.hub.emitter("e", node_id="write", **scope)
        place.hub.publish("e", "token", {"content": text}, scope=emitter.scope)

    write("wrong ", attempt=1, message_id="m1")
    write("one ", attempt=2, message_id="m2")
    write("three", attempt=2, message_id="m3")
    write("two ", attempt=2, message_id="m2")
    await place.hub.close("e")
    assert await make(place.url).text("e") == "one two three"


async def test_text_of_agents_without_what_was_taken_back(place: Place, make: Make) -> None:
    def say(type: str, content: str = "", **scope: Any) -> None:
        place.hub.publish("e", type, {"content": content}, scope=Scope(attempt=1, **scope))

    lead: dict[str, Any] = {"agent_type": "lead", "node_id": "model", "namespace": "team:1|model:2"}
    writer: dict[str, Any] = {"agent_type": "writer", "node_id": "model", "namespace": "team:1|tools:3|model:4"}
    say("token", "Write it. ", message_id="a", **lead)
    say("token", "It ra", message_id="b", **writer)
    say("llm_error", message_id="b", **writer)
    say("token", "It rains.", message_id="c", **writer)
    place.hub.publish("e", "workflow_interrupted")
    client = make(place.url)

    async def text(**options: Any) -> str:
        return await client.text("e", until="interrupted", timeout=PATIENCE, **options)

    assert await text() == "Write it. It rains."
    assert await text(agent="writer") == await text(namespace="team/tools/*") == "It rains."
    assert await text(node="mod*") == "Write it. It rains."
    assert await text(agent="lead", namespace="team/tools/**") == ""
    messages = await client.texts("e", until="interrupted")
    assert [(each.path, each.agent_type, each.text) for each in messages] == [
        ("team/model", "lead", "Write it. "),
        ("team/tools/model", "writer", "It rains."),
    ]
    with pytest.raises(TimeoutError):
        await client.text("e", timeout=0.1)
    anything: Any = client
    with pytest.raises(TypeError, match="agents"):
        await anything.text("e", agents="writer")


async def test_reading_ends_at_an_interruption_whatever_is_filtered(place: Place, make: Make) -> None:
    place.hub.emitter("e", node_id="write").token("May I?")
    place.hub.publish("e", "workflow_interrupted")
    client = make(place.url)
    first = client.subscribe("e", until="interrupted")
    assert [update.type async for update in first] == ["workflow_start", "token", "workflow_interrupted"]
    only = client.subscribe("e", events=["token"], until="interrupted", timeout=PATIENCE)
    assert [update.type async for update in only] == ["token"]
    await place.hub.close("e")
    rest = client.subscribe("e", after=first.position, until="interrupted")
    assert [update.type async for update in rest] == ["workflow_complete"]


async def test_reading_that_does_not_end_in_time_is_a_timeout(place: Place, make: Make) -> None:
    place.hub.open("e")
    client, seen = make(place.url), list[str]()

    async def read() -> None:
        async for update in client.subscribe("e", timeout=0.3):
            seen.append(update.type)

    with pytest.raises(TimeoutError, match="'e'"):
        await read()
    assert seen in ([], ["workflow_start"])
    with pytest.raises(BadRequestError, match="timeout"):
        client.subscribe("e", timeout=0)


async def test_as_an_observable(place: Place, make: Make) -> None:
    place.tokens("e", 20)
    await place.hub.close("e")
    client = make(place.url)
    got, done = list[int](), asyncio.Event()
    source = client.observe("e", events=["token"]).pipe(ops.map(lambda update: update.data["index"]), ops.take(5))
    source.subscribe(got.append, on_completed=done.set)
    await asyncio.wait_for(done.wait(), PATIENCE)
    assert got == list(range(5))
    everything, errors = list[StreamUpdate](), list[Exception]()
    ended = asyncio.Event()
    client.observe("e").subscribe(everything.append, errors.append, ended.set)
    await asyncio.wait_for(ended.wait(), PATIENCE)
    assert seqs(everything) == list(range(1, 23))
    failed = asyncio.Event()

    def fail(error: Exception) -> None:
        errors.append(error)
        failed.set()

    client.observe("e", after="a:1", on_gap="fail").subscribe(lambda _: None, fail)
    await asyncio.wait_for(failed.wait(), PATIENCE)
    assert isinstance(errors[0], GapError)


# ---------------------------------------------------------------- gaps
async def test_what_was_evicted_is_told_and_the_rest_is_read(make: Make) -> None:
    async with place_with(retention={"max_updates": 50}) as place:
        place.tokens("e", 1)
        state = await place.hub.describe("e")
        assert state is not None
        place.tokens("e", 100, start=1)
        with place.serving():
            client = make(place.url)
            heard = Heard(client)
            await place.hub.close("e")
            updates = await read_all(client, after=Position(state.epoch, 2))
            gap, *rest = updates
            assert (gap.type, gap.data["from"], gap.data["reason"]) == ("gap", 3, "evicted")
            assert seqs(rest) == list(range(gap.data["to"] + 1, 104))
            assert [(each.first, each.last) for each in heard.of("gap")] == [(3, gap.data["to"])]
            with pytest.raises(GapError):
                await read_all(client, after=Position(state.epoch, 2), on_gap="fail")
            another_life = await read_all(client, after="other:2")
            assert another_life[0].data["reason"] == "epoch_changed"


# ---------------------------------------------------------------- what ends a subscription
async def test_what_may_not_be_read(make: Make) -> None:
    async with place_with(auth={"secret": "a secret of at least thirty-two bytes"}) as place:
        with place.serving():
            client = make(place.url)
            heard = Heard(client)
            with pytest.raises(StreamingError) as raised:
                await read_all(client)
            assert raised.value.code == 4010
            assert heard.names.count("connecting") == 1


@pytest.mark.row("CFLOW-37")
async def test_nobody_there(make: Make) -> None:
    client = make("http://127.0.0.1:1", max_reconnect_attempts=3)
    heard = Heard(client)
    subscription = client.subscribe("e")
    with pytest.raises(ConnectionLostError, match="connection"):
        await take(subscription, 1)
    assert [each.attempt for each in heard.of("reconnecting")] == [1, 2, 3]
    assert heard.of("disconnected")[-1].will_reconnect is False
    assert subscription.state == "failed"


async def test_not_a_gateway(make: Make, place: Place) -> None:
    client = make(f"{place.url}/nothing/here")
    with pytest.raises(ConnectionLostError, match="url right"):
        await read_all(client)
    with pytest.raises(ConnectionLostError, match="url right"):
        await client.executions()


async def test_a_certificate_is_checked(make: Make, tmp_path: Path) -> None:
    authority, trusting = trustme.CA(), ssl.create_default_context()
    authority.configure_trust(trusting)
    pem = tmp_path / "server.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(pem))
    with site(**OPEN, uvicorn={"ssl_certfile": str(pem)}) as running:
        running.tokens("e", 1)
        url = running.url.replace("http://127.0.0.1", "https://localhost")
        with pytest.raises(ConnectionLostError, match=r"(?i)certificate"):
            await take(make(url, auto_reconnect=False).subscribe("e"), 1)
        client = make(url, ssl_context=trusting)
        assert seqs(await take(client.subscribe("e"), 2)) == [1, 2]
        assert (await client.execution("e"))["state"] == "running"
        await client.aclose()


# ---------------------------------------------------------------- leaving
@pytest.mark.row("PYEV-17")
@pytest.mark.row("CFLOW-40")
async def test_closing_ends_a_loop_that_waits(place: Place, make: Make) -> None:
    place.tokens("e", 3)
    client = make(place.url)
    seen = asyncio.Event()
    client.on_update(lambda update: seen.set() if update.type == "token" else None)
    subscription = client.subscribe("e")

    async def read() -> list[int]:
        return [update.metadata.sequence_number async for update in subscription]

    reading = asyncio.create_task(read())
    await asyncio.wait_for(seen.wait(), PATIENCE)
    await subscription.aclose()
    assert await asyncio.wait_for(reading, PATIENCE) == [1, 2, 3, 4][: len(reading.result())]
    assert client.statistics().subscriptions == 0
    await subscription.aclose()


@pytest.mark.row("CFLOW-40")
async def test_closing_ends_the_tries(make: Make) -> None:
    client = make("http://127.0.0.1:1", reconnect_delay=1000.0, max_reconnect_delay=1000.0)
    heard = Heard(client)
    reading = asyncio.create_task(read_all(client))
    await heard.until("reconnecting")
    await client.aclose()
    await asyncio.wait_for(asyncio.gather(reading, return_exceptions=True), PATIENCE)
    assert client.state == "disconnected"


async def test_cancelling_leaves_nothing(place: Place, make: Make) -> None:
    place.tokens("e", 3)
    async with make(place.url) as client:
        seen = asyncio.Event()
        client.on_update(lambda _: seen.set())
        reading = asyncio.create_task(read_all(client))
        await asyncio.wait_for(seen.wait(), PATIENCE)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert client.statistics().subscriptions == 0


async def test_a_subscription_is_read_once(place: Place, make: Make) -> None:
    place.tokens("e", 1)
    await place.hub.close("e")
    subscription = make(place.url).subscribe("e")
    await take(subscription, 2)
    with pytest.raises(RuntimeError, match="read once"):
        await take(subscription, 1)
