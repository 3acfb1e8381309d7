"""The official socket.io-client against a real server."""

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import jwt
import pytest

from tests.gateway.site import SECRET, Site, raw_client, site
from tests.support.node import NodeClient, node_client

Line = dict[str, Any]
Claims = dict[str, Any]


def number(update: Any) -> int:
    return update["metadata"]["sequence_number"]


def position(update: Any) -> str:
    return f"{update['metadata']['epoch']}:{number(update)}"


async def take_until_end(client: NodeClient, *, timeout: float = 20.0) -> list[Any]:
    """The updates of the one subscription, in order, up to `subscription_closed`."""
    updates: list[Any] = []
    async with asyncio.timeout(timeout):
        while True:
            line = await client.take(lambda line: line["type"] == "event")
            match line["event"]:
                case "token" | "progress" | "status" | "event":
                    updates.append(line["payload"])
                case "updates":
                    updates.extend(line["payload"]["updates"])
                case "subscription_closed":
                    return updates
                case _:
                    pass


async def run(site: Site, execution_id: str, tokens: int, *, delay: float = 0.0) -> None:
    """A run of so many tokens; its updates are numbered 1 to tokens + 2."""
    site.hub.open(execution_id)
    for index in range(tokens):
        site.tokens(execution_id, 1, start=index)
        if delay:
            await asyncio.sleep(delay)
    await site.hub.close(execution_id, {"answer": 42})


def bearer(subject: str = "alice", *, lifetime: float = 600, **claims: Any) -> dict[str, str]:
    return {"token": jwt.encode({"sub": subject, "exp": int(time.time() + lifetime), **claims}, SECRET, "HS256")}


@asynccontextmanager
async def two_clients(url: str) -> AsyncGenerator[tuple[NodeClient, NodeClient]]:
    async with node_client(url) as first, node_client(url) as second:
        yield first, second


# ---------------------------------------------------------------- watching
async def test_a_client_is_greeted(open_site: Site) -> None:
    async with node_client(open_site.url) as client:
        greeting = await client.event("connection_status")
        assert greeting["status"] == "connected"
        assert greeting["protocol"] == 1
        assert greeting["heartbeat_interval_s"] == 15
        assert open_site.gateway.connections == 1


@pytest.mark.row("PYEV-22")
async def test_a_live_run(open_site: Site) -> None:
    async with node_client(open_site.url) as client:
        answer = await client.emit("subscribe_execution", {"executionId": "exec-1"})
        assert answer == {
            "ok": True,
            "execution_id": "exec-1",
            "state": "unknown",
            "position": None,
            "oldest": None,
            "recovered": True,
        }
        producing = asyncio.create_task(run(open_site, "exec-1", 200, delay=0.001))
        updates = await take_until_end(client)
        await producing
        assert [number(update) for update in updates] == list(range(1, 203))
        assert "".join(each["data"]["content"] for each in updates if each["type"] == "token") == "".join(
            f"t{index} " for index in range(200)
        )
        assert updates[-1]["type"] == "workflow_complete"
        assert updates[-1]["data"] == {"result": {"answer": 42}}


async def test_each_kind_comes_under_its_own_name(open_site: Site) -> None:
    hub = open_site.hub
    hub.open("exec-1")
    hub.publish("exec-1", "token", {"content": "a"})
    hub.publish("exec-1", "milestone", {"milestone": 50, "progress": 50})
    hub.publish("exec-1", "task:done", {"n": 1})
    await hub.close("exec-1")
    async with node_client(open_site.url) as client:
        await client.emit("subscribe_execution", {"execution_id": "exec-1"})
        names = [
            line["event"] for line in await client.events(until=lambda line: line["event"] == "subscription_closed")
        ]
    assert names == ["connection_status", "status", "token", "progress", "event", "status", "subscription_closed"]


@pytest.mark.parametrize("batch", [False, True])
async def test_a_late_client_gets_the_whole_run(open_site: Site, batch: bool) -> None:
    await run(open_site, "exec-1", 3_000)
    async with node_client(open_site.url) as client:
        answer = await client.emit("subscribe_execution", {"execution_id": "exec-1", "batch": batch})
        assert (answer["state"], answer["oldest"], answer["recovered"]) == ("completed", 1, True)
        updates = await take_until_end(client)
    assert [number(update) for update in updates] == list(range(1, 3_003))
    assert answer["position"] == position(updates[-1])


async def test_what_comes_together_shares_a_message_in_a_batch(open_site: Site) -> None:
    await run(open_site, "exec-1", 300)
    async with node_client(open_site.url) as client:
        await client.emit("subscribe_execution", {"execution_id": "exec-1", "batch": True})
        messages = await client.events(until=lambda line: line["event"] == "subscription_closed")
    batches = [line["payload"] for line in messages if line["event"] == "updates"]
    assert len(batches) <= 3
    assert all(batch["execution_id"] == "exec-1" for batch in batches)


@pytest.mark.parametrize("seed", range(4))
async def test_reloading_in_mid_run_loses_nothing_and_repeats_nothing(open_site: Site, seed: int) -> None:
    rng = random.Random(seed)
    got: list[Any] = []
    producing = asyncio.create_task(run(open_site, "exec-1", 400, delay=0.002))
    async with node_client(open_site.url) as client:
        while not got or got[-1]["type"] != "workflow_complete":
            after = {"after": position(got[-1])} if got else {}
            answer = await client.emit(
                "subscribe_execution", {"execution_id": "exec-1", "batch": rng.random() < 0.5, **after}
            )
            assert answer["ok"]
            assert answer["recovered"]
            got += await take_some(client, rng.randrange(1, 120))
            if got[-1]["type"] != "workflow_complete":
                await client.send(rng.choice(["drop", "disconnect"]))
                await client.of_type("disconnect")
                # What had arrived before the line was cut belongs to the client too.
                got += [update for line in client.kept() for update in updates_in(line)]
                await forget(client)
                await client.send("reconnect")
                await client.of_type("connect")
    await producing
    assert [number(update) for update in got] == list(range(1, 403))


def updates_in(line: Line) -> list[Any]:
    if line["type"] != "event":
        return []
    if line["event"] == "updates":
        return line["payload"]["updates"]
    return [line["payload"]] if line["event"] in {"token", "progress", "status", "event"} else []


async def take_some(client: NodeClient, count: int) -> list[Any]:
    got: list[Any] = []
    while len(got) < count and (not got or got[-1]["type"] != "workflow_complete"):
        got += updates_in(await client.take(lambda line: bool(updates_in(line))))
    return got


async def forget(client: NodeClient) -> None:
    for _ in client.kept():
        await client.next()


@pytest.mark.row("FLOW-D9", "AOS-28")
async def test_two_clients_at_once_see_the_same_and_do_not_disturb_each_other(open_site: Site) -> None:
    async with two_clients(open_site.url) as (first, second):
        await first.emit("subscribe_execution", {"execution_id": "exec-1"})
        await second.emit("subscribe_execution", {"execution_id": "exec-1", "events": ["token"], "batch": True})
        producing = asyncio.create_task(run(open_site, "exec-1", 100, delay=0.001))
        everything, tokens = await asyncio.gather(take_until_end(first), take_until_end(second))
        await producing
    assert [number(update) for update in everything] == list(range(1, 103))
    assert tokens == [update for update in everything if update["type"] == "token"]


@pytest.mark.parametrize(
    ("wanted", "types"),
    [
        ({"events": ["progress"]}, {"milestone", "progress"}),
        ({"events": ["task:*"]}, {"task:started", "task:done"}),
        ({"events": ["milestone", "task:done"]}, {"milestone", "task:done"}),
        ({"node_ids": ["write"]}, {"token"}),
        ({"min_priority": "high"}, {"workflow_start", "workflow_complete"}),
    ],
)
async def test_filters(open_site: Site, wanted: dict[str, Any], types: set[str]) -> None:
    hub = open_site.hub
    hub.emitter("exec-1", node_id="write").token("a")
    hub.emitter("exec-1", node_id="plan").token("b")
    for name in ("progress", "milestone", "task:started", "task:done", "note"):
        hub.publish("exec-1", name, {"progress": 1})
    await hub.close("exec-1")
    async with node_client(open_site.url) as client:
        await client.emit("subscribe_execution", {"execution_id": "exec-1", **wanted})
        updates = await take_until_end(client)
    assert {update["type"] for update in updates} == types


@pytest.mark.row("HIVE-72")
@pytest.mark.row("HIVE-64")
@pytest.mark.row("HIVE-D23")
async def test_an_unsubscribed_execution_is_silent_and_an_empty_id_is_required(open_site: Site) -> None:
    async with node_client(open_site.url) as client:
        await client.emit("subscribe_execution", {"execution_id": "a"})
        await client.emit("subscribe_execution", {"execution_id": "b"})
        assert await client.emit("unsubscribe_execution", {"execution_id": "a"}) == {"ok": True, "execution_id": "a"}
        assert (await client.emit("unsubscribe_execution", {"execution_id": "never"}))["ok"]
        empty = await client.emit("subscribe_execution", {"execution_id": ""})
        assert "required" in empty["error"]["message"]
        await run(open_site, "a", 10)
        await run(open_site, "b", 10)
        updates = await take_until_end(client)
        assert {update["metadata"]["execution_id"] for update in updates} == {"b"}
        assert open_site.hub.statistics().subscriptions == 0


@pytest.mark.row("HIVE-D23")
async def test_subscribing_again_replaces_the_subscription(open_site: Site) -> None:
    open_site.hub.open("exec-1")
    async with node_client(open_site.url) as client:
        await client.emit("subscribe_execution", {"execution_id": "exec-1", "events": ["progress"]})
        await client.emit("subscribe_execution", {"execution_id": "exec-1", "after": "latest", "events": ["token"]})
        status = await client.emit("get_status")
        assert len(status["subscriptions"]) == 1
        open_site.tokens("exec-1", 5)
        await open_site.hub.close("exec-1")
        assert len(await take_until_end(client)) == 5
    assert open_site.hub.statistics().subscriptions == 0


async def test_a_follower_stays_over_the_end_of_a_run(open_site: Site) -> None:
    async with node_client(open_site.url) as client:
        await client.emit("subscribe_execution", {"execution_id": "chat", "follow": True})
        await run(open_site, "chat", 3)
        await run(open_site, "chat", 3)
        lines = await client.events("token", "status", until=lambda line: number(line["payload"]) == 10)
        assert [number(line["payload"]) for line in lines] == list(range(1, 11))
        assert (await client.emit("get_status"))["subscriptions"][0]["follow"]


@pytest.mark.row("PYEV-19")
async def test_an_update_is_there_within_a_tenth_of_a_second(open_site: Site) -> None:
    open_site.hub.open("exec-1")
    async with raw_client(open_site) as client:
        await client.ask("subscribe_execution", {"execution_id": "exec-1", "after": "latest"})
        delays: list[float] = []
        for index in range(50):
            await asyncio.sleep(0.01)
            began = time.perf_counter()
            open_site.tokens("exec-1", 1, start=index)
            assert (await client.event("token"))["data"]["index"] == index
            delays.append(time.perf_counter() - began)
    assert sorted(delays)[45] < 0.1


# ---------------------------------------------------------------- gaps
async def test_a_gap_is_said_and_reading_goes_on_as_wished() -> None:
    with site(retention={"max_updates": 50}) as place:
        await run(place, "exec-1", 100)
        state = await place.hub.describe("exec-1")
        assert state is not None
        async with node_client(place.url) as client:
            answer = await client.emit("subscribe_execution", {"execution_id": "exec-1", "after": f"{state.epoch}:10"})
            assert (answer["recovered"], answer["reason"], answer["oldest"]) == (False, "evicted", 53)
            assert await client.event("gap") == {"execution_id": "exec-1", "from": 11, "to": 52, "reason": "evicted"}
            assert [number(update) for update in await take_until_end(client)] == list(range(53, 103))

            answer = await client.emit("subscribe_execution", {"execution_id": "exec-1", "after": "other:5"})
            assert answer["reason"] == "epoch_changed"
            assert (await client.event("gap"))["reason"] == "epoch_changed"
            await take_until_end(client)

            answer = await client.emit("subscribe_execution", {"execution_id": "exec-1", "on_gap": "fail"})
            assert answer["error"]["code"] == 4091
            assert answer["error"]["retryable"]


# ---------------------------------------------------------------- other messages
async def test_ping_and_status(open_site: Site) -> None:
    async with node_client(open_site.url) as client:
        greeting = await client.event("connection_status")
        assert (await client.emit("ping"))["timestamp"].endswith("Z")
        await client.emit("subscribe_execution", {"execution_id": "exec-1", "batch": True})
        status = await client.emit("get_status")
        assert status["connection"]["connection_id"] == greeting["connection_id"]
        assert status["subscriptions"] == [{"execution_id": "exec-1", "position": None, "batch": True, "follow": False}]
        assert status["server"]["connections"] == 1


async def test_heartbeats_carry_positions() -> None:
    with site(gateway={"heartbeat_interval": 0.05}) as place:
        place.tokens("exec-1", 4)
        async with node_client(place.url) as client:
            await client.emit("subscribe_execution", {"execution_id": "exec-1"})
            beat = await client.event("heartbeat")
            while "exec-1" not in beat["positions"]:
                beat = await client.event("heartbeat")
            assert beat["positions"]["exec-1"].endswith(":5")
            assert beat["timestamp"].endswith("Z")


async def test_the_transports_own_pings_keep_a_quiet_client() -> None:
    with site(gateway={"ping_interval": 0.1, "ping_timeout": 0.2}) as place:
        async with node_client(place.url) as client:
            await asyncio.sleep(0.8)
            assert (await client.emit("ping"))["ok"]


@pytest.mark.row("HIVE-D22")
async def test_another_prefix_and_namespace() -> None:
    with site(gateway={"prefix": "/streaming", "namespace": "/live"}) as place:
        await run(place, "exec-1", 3)
        async with node_client(place.url, path="/streaming/socket.io", namespace="/live") as client:
            assert (await client.emit("subscribe_execution", {"execution_id": "exec-1"}))["ok"]
            assert len(await take_until_end(client)) == 5
        async with node_client(place.url, path="/streaming/socket.io", wait=False) as client:
            refused = await client.of_type("connect_error")
            assert refused["data"]["code"] == 4000


# ---------------------------------------------------------------- who may see what
async def test_a_token_is_required_and_its_owner_sees_his_own_only() -> None:
    with site(auth={"enabled": True, "secret": SECRET}) as place:
        place.hub.open("his", owner="alice")
        place.hub.open("hers", owner="bob")
        await place.hub.close("his")
        for auth in ({"token": "x.y.z"}, {"token": 7}, bearer(lifetime=-60)):
            async with node_client(place.url, auth=auth, wait=False) as client:
                refused = await client.of_type("connect_error")
                assert refused["data"]["code"] == (4011 if auth == bearer(lifetime=-60) else refused["data"]["code"])
                assert refused["data"]["code"] in {4010, 4011}
                assert refused["data"].keys() >= {"code", "name", "message", "retryable"}
        assert place.gateway.connections == 0
        async with node_client(place.url, auth=bearer()) as client:
            assert (await client.emit("subscribe_execution", {"execution_id": "his"}))["ok"]
            assert [update["type"] for update in await take_until_end(client)] == [
                "workflow_start",
                "workflow_complete",
            ]
            hers = await client.emit("subscribe_execution", {"execution_id": "hers"})
            unknown = await client.emit("subscribe_execution", {"execution_id": "nothing"})
            assert hers["error"]["code"] == 4030
            assert {**hers["error"], "execution_id": ""} == {**unknown["error"], "execution_id": ""}
            assert (await client.emit("ping"))["ok"]


async def test_a_claim_or_the_application_lets_others_see_it() -> None:
    with site(auth={"secret": SECRET}, authorize=lambda p, _, __, ___: p.subject == "auditor") as place:
        place.hub.open("acme/run-1", owner="bob")
        granted: Claims = {"lg_streaming": [{"actions": ["read"], "executions": ["acme/*"]}]}
        for auth, expected in ((bearer(), False), (bearer(**granted), True), (bearer("auditor"), True)):
            async with node_client(place.url, auth=auth) as client:
                answer = await client.emit("subscribe_execution", {"execution_id": "acme/run-1"})
                assert answer["ok"] is expected


async def test_a_page_from_elsewhere_is_refused() -> None:
    with site(gateway={"cors_origins": ("https://app.example.com",)}) as place:
        headers = {"extraHeaders": {"Origin": "https://evil.example.com"}}
        async with node_client(place.url, opts=headers, wait=False) as client:
            assert (await client.of_type("connect_error"))["data"]["code"] == 4031
        headers = {"extraHeaders": {"Origin": "https://app.example.com"}}
        async with node_client(place.url, opts=headers):
            pass


async def test_behind_a_proxy_nothing_is_open_by_default(open_site: Site) -> None:
    for headers in ({"X-Forwarded-For": "127.0.0.1"}, {"Forwarded": "for=127.0.0.1"}):
        async with node_client(open_site.url, opts={"extraHeaders": headers}, wait=False) as client:
            refused = await client.of_type("connect_error")
            assert refused["data"]["code"] == 4010
            assert "LG_STREAMING_AUTH__SECRET" in refused["message"]


async def test_a_token_that_expires_stops_delivery_and_a_fresh_one_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lg_streaming.gateway.session.timers._EXPIRY_WARNING", 0.3)
    monkeypatch.setattr("lg_streaming.gateway.transports.connection._EXPIRY_GRACE", 2.0)
    with site(auth={"secret": SECRET, "leeway": 0}) as place:
        place.hub.open("exec-1", owner="alice")
        async with node_client(place.url, auth=bearer()) as client:
            await client.emit("subscribe_execution", {"execution_id": "exec-1"})
            await client.emit("authenticate", bearer(lifetime=2.2))  # which begins when Node has started
            assert (await client.event("auth_expiring"))["in_s"] <= 0.4
            await asyncio.sleep(0.5)
            place.tokens("exec-1", 5)
            for _ in range(5):  # it is still answered, so what was sent before would have come
                assert (await client.emit("ping"))["ok"]
                await asyncio.sleep(0.05)
            assert not [line for line in client.kept() if line.get("event") == "token"]
            answer = await client.emit("authenticate", bearer(lifetime=2.2))
            assert 1.1 < answer["expires_in_s"] <= 2.2
            tokens = await client.events("token", until=lambda line: number(line["payload"]) == 6)
            assert len(tokens) == 5
            wrong = await client.emit("authenticate", bearer("mallory"))
            assert wrong["error"]["code"] == 4010
            assert (await client.of_type("disconnect"))["reason"] == "io server disconnect"
        async with raw_client(place, auth=bearer(lifetime=2.2)) as raw:
            code, before = await raw.closed()
            assert code == 4011
            assert any(json.loads(text[2:])[1].get("code") == 4011 for text in before if text.startswith('42["error'))


async def test_a_fresh_token_that_allows_less_ends_what_it_does_not_allow() -> None:
    with site(auth={"secret": SECRET}) as place:
        place.hub.open("acme/run-1", owner="bob")
        granted: Claims = {"lg_streaming": [{"actions": ["read"], "executions": ["acme/*"]}]}
        async with node_client(place.url, auth=bearer(**granted)) as client:
            assert (await client.emit("subscribe_execution", {"execution_id": "acme/run-1"}))["ok"]
            assert (await client.emit("authenticate", bearer()))["ok"]
            assert await client.event("subscription_closed") == {"execution_id": "acme/run-1", "reason": "forbidden"}
            place.tokens("acme/run-1", 3)
            assert (await client.emit("get_status"))["subscriptions"] == []
            assert not [line for line in client.kept() if line.get("event") == "token"]


# ---------------------------------------------------------------- limits
async def test_limits_on_connections_and_subscriptions() -> None:
    with site(limits={"connections": 1, "subscriptions_per_connection": 2}) as place:
        async with node_client(place.url) as client:
            async with node_client(place.url, wait=False) as second:
                assert (await second.of_type("connect_error"))["data"]["code"] == 4291
            for execution_id in ("a", "b", "a"):
                assert (await client.emit("subscribe_execution", {"execution_id": execution_id}))["ok"]
            refused = await client.emit("subscribe_execution", {"execution_id": "c"})
            assert refused["error"]["code"] == 4290
            await client.emit("unsubscribe_execution", {"execution_id": "a"})
            assert (await client.emit("subscribe_execution", {"execution_id": "c"}))["ok"]
    assert place.hub.statistics().subscriptions == 0


@pytest.mark.row("HIVE-D23")
async def test_everything_is_freed_when_clients_leave(open_site: Site) -> None:
    async with two_clients(open_site.url) as (first, second):
        for client in (first, second):
            for execution_id in ("a", "b", "c"):
                await client.emit("subscribe_execution", {"execution_id": execution_id})
        assert open_site.hub.statistics().subscriptions == 6
        await first.send("drop")
        await second.send("disconnect")
        async with asyncio.timeout(5):
            while open_site.gateway.connections or open_site.hub.statistics().subscriptions:
                await asyncio.sleep(0.01)
