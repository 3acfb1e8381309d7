"""Redis's memory of an execution, and its processor time for an append."""

import asyncio
import operator
import secrets
import statistics
from typing import Any, Final, cast

from redis import Redis

from lg_streaming.hub import StreamHub
from lg_streaming.log.base import Batch, PendingUpdate
from lg_streaming.log.redis import RedisLog
from lg_streaming.log.redis.records import encode_record
from lg_streaming.publisher import Scope
from tests.bench.fleet import used_cpu
from tests.bench.fleet_gateway import fleet_settings
from tests.bench.stage import tell
from tests.support.redis_server import RedisServer, redis_server

SIZES: Final = (100, 1_000, 10_000)
BURSTS: Final = (1, 10)
APPENDS: Final = 10_000
ROUNDS: Final = 3
EXECUTIONS: Final = 100
TARGET_MEMORY: Final = 1.3
TARGET_APPEND: Final = 3.0


# --- memory -----------------------------------------------------------------------------------------------------


def _used(client: "Redis", execution_id: str) -> int:
    keys = [f"lg:{{{execution_id}}}:{part}" for part in "uxk"]
    return sum(cast("Any", client).execute_command("MEMORY", "USAGE", key, "SAMPLES", 0) or 0 for key in keys)


async def _memory(server: RedisServer, updates: int, burst: int) -> dict[str, float]:
    """Bytes of an execution that runs, that has ended, whose updates have expired, and of its records."""
    name = f"memory-{updates}-{burst}"
    hub = StreamHub(fleet_settings(server.url))
    with server.client() as client:
        hub.open(name)
        await hub.writer.flush()
        for index in range(1, updates):
            hub.publish(name, "token", {"content": f"token{index} ", "index": index})
            if index % burst == 0:
                await hub.writer.flush()
        await hub.writer.flush()
        found: dict[str, float] = {"running": _used(client, name)}
        records: Any = client.xrange(f"lg:{{{name}}}:u")
        found["records"] = sum(len(fields[b"r"]) for _, fields in records)
        await hub.close(name)
        await hub.writer.flush()
        found["ended"] = _used(client, name)
        client.delete(f"lg:{{{name}}}:u")
        found["expired"] = _used(client, name)
    await hub.aclose()
    return found


async def measure_memory() -> None:
    """`MEMORY USAGE` of an execution, for appends of one update and of ten."""
    with redis_server() as server:
        for burst in BURSTS:
            found = {updates: await _memory(server, updates, burst) for updates in SIZES}
            largest = found[SIZES[-1]]
            tell(
                f"memory of Redis to bytes of updates, {burst} an append",
                largest["running"] / largest["records"],
                TARGET_MEMORY,
                operator.le,
                bytes_of_an_update=round(largest["records"] / SIZES[-1]),
                bytes={updates: {kind: each[kind] for kind in ("running", "ended")} for updates, each in found.items()},
                bytes_of_record=largest["expired"],
            )


# --- appends ----------------------------------------------------------------------------------------------------


def _updates(count: int) -> list[PendingUpdate]:
    scope = Scope(run_id="01a1fae7-2df2-7489-8ff7-7e10cd4e3cb8", node_id="write", message_id="m1")
    body = (
        b'{"type":"token","data":{"content":"token1234 ","index":1234},"metadata":{"timestamp":'
        b'"2026-11-20T20:00:00.123456Z","execution_id":"bench-1","priority":"medium"' + scope.fragment
    )
    return [PendingUpdate("token", scope, "medium", 1.0, body)] * count


class Appends:
    """Appends in pipelines, each of one batch to each execution: ours, and those of raw Redis with the same bytes."""

    def __init__(self, server: RedisServer, burst: int) -> None:
        self._log = RedisLog(server.url)
        self._server = server
        self._updates = _updates(burst)
        self._number = 0
        self._names = [secrets.token_hex(8) for _ in range(EXECUTIONS)]
        start = self._updates[0]._replace(type="workflow_start")
        self._append([start])

    def _append(self, updates: list[PendingUpdate]) -> None:
        self._number += 1
        for result in self._log.append_all([Batch(name, updates, "p", self._number) for name in self._names]):
            if isinstance(result, Exception):
                raise result

    def ours(self) -> None:
        for _ in range(APPENDS // EXECUTIONS):
            self._append(self._updates)

    def xadd(self, *, publishes: bool = False) -> None:
        records = b"".join(map(encode_record, self._updates))
        with Redis.from_url(self._server.url) as client:
            for _ in range(APPENDS // EXECUTIONS):
                pipeline: Any = client.pipeline(transaction=False)
                for name in self._names:
                    pipeline.xadd(f"raw:{{{name}}}:u", {"n": len(self._updates), "r": records})
                    if publishes:
                        pipeline.execute_command("SPUBLISH", f"raw:{{{name}}}:n", records)
                pipeline.execute()

    def microseconds(self) -> dict[str, float]:
        """Processor time of Redis for each append, by its way."""
        found: dict[str, float] = {}
        ways = {"ours": self.ours, "xadd": self.xadd, "xadd_spublish": lambda: self.xadd(publishes=True)}
        for name, append in ways.items():
            before = used_cpu(self._server)
            append()
            found[name] = (used_cpu(self._server) - before) / APPENDS * 1e6
        return found

    async def aclose(self) -> None:
        await self._log.aclose()


async def measure_appends() -> None:
    """Processor time of Redis for an append."""
    for burst in BURSTS:
        with redis_server() as server:
            appends = await asyncio.to_thread(Appends, server, burst)
            rounds = [await asyncio.to_thread(appends.microseconds) for _ in range(ROUNDS)]
            await appends.aclose()
        found = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
        tell(
            f"processor time of Redis for an append of {burst}, to XADD and SPUBLISH",
            statistics.median(each["ours"] / each["xadd_spublish"] for each in rounds),
            TARGET_APPEND,
            operator.le,
            **{f"{name}_us": round(value, 1) for name, value in found.items()},
        )


async def measure() -> None:
    await measure_memory()
    await measure_appends()
