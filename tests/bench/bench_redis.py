"""Executions in Redis: producers, Redis, two gateways and the clients are processes that share this machine.

Compared with raw Redis for the same updates, the log in memory, and the same fan-out by python-socketio's manager.
`cpu_us_per_update` is the processor time of each kind of process: the rates depend on the number of processors.
"""

import asyncio
import operator
import statistics
import sys
import time
from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict, replace
from typing import Any, Final

import uvloop

from lg_streaming.hub import StreamHub
from tests.bench import redis_costs
from tests.bench.fleet import STOCK, Monitor, Processors, Program, gateways, program
from tests.bench.fleet_gateway import fleet_settings
from tests.bench.fleet_producer import Work
from tests.bench.fleet_subscriber import Channels
from tests.bench.readers import Wanted, name_of
from tests.bench.stage import ours, readers, settings, tell
from tests.support.redis_server import RedisServer, redis_server
from tests.support.server import ServerProcess

ROUNDS: Final = 2
EXECUTIONS: Final = 1_000
UPDATES: Final = {10: 100, 1: 40}
"""Of each execution, by the length of a burst."""
TARGET_RATE: Final = 50_000.0
RATES: Final = {10_000: 3.0, 1_000: 3.0}
"""Updates a second, and for how many seconds."""
TARGET_DELAY_MS: Final = 5.0
FIRSTS: Final = 200
FIRST_RATE: Final = 100
TARGET_FIRST_MS: Final = 2.0
STORM: Final = 2_000
BEHIND: Final = 200
TARGET_STORM_S: Final = 5.0
TARGET_STORM_CALLS: Final = 2.0
IDLE_S: Final = 20.0
LEASES: Final = frozenset({"renew_lease", "list_processes", "begin_reaping", "end_reaping"})
PRODUCED: Final = 60_000
TARGET_SCALE: Final = 1.6
CLIENTS: Final = 500
TOKENS: Final = {"stock": 60, "single": 600, "batch": 3_000}
TARGETS: Final = {"single": 1.7, "batch": 15.0}


def port_options(servers: list[ServerProcess]) -> dict[str, Any]:
    first, *others = (server.port for server in servers)
    return {"port": first, "ports": tuple(others)}


# --- end to end -------------------------------------------------------------------------------------------------


async def end_to_end(work: Work) -> dict[str, Any]:
    """Each execution has one reader: half of them on each gateway."""
    with redis_server() as server, gateways(server.url) as serving:
        work = replace(work, url=server.url)
        wanted = Wanted(
            **port_options(serving),
            count=work.executions,
            executions=work.executions,
            last=work.updates + 1,
            delays=bool(work.rate),
            at_once=True,
        )
        async with program("fleet_producer", asdict(work)) as producer, readers(wanted) as clients:
            pids = [each.pid for each in serving]
            used = Processors(producer=producer.pid, redis=server.pid, gateways=pids, clients=clients.process.pid)
            began = time.perf_counter()
            producer.go()
            report = await clients.report(work.updates + 1)
            seconds = time.perf_counter() - began
            cpu = used.microseconds(work.total)
        entries = server.execute("XLEN", f"lg:{{{name_of(0)}}}:u") - 1
        return {
            **report,
            "updates_per_s": work.total / seconds,
            "cpu": cpu,
            "batch": work.updates / entries,
            "size": server.execute("HGET", f"lg:{{{name_of(0)}}}:x", "b"),
        }


async def raw_end_to_end(work: Work) -> dict[str, Any]:
    """The same with two plain subscribers."""
    messages = work.total // work.burst // 2
    with redis_server() as server:
        work = replace(work, url=server.url, kind="raw")
        async with AsyncExitStack() as stack:
            subscribers: list[Program] = []
            for first in range(2):
                orders = Channels(url=server.url, first=first, step=2, executions=work.executions, messages=messages)
                subscribers.append(await stack.enter_async_context(program("fleet_subscriber", asdict(orders))))
            producer = await stack.enter_async_context(program("fleet_producer", asdict(work)))
            pids = [each.pid for each in subscribers]
            used = Processors(producer=producer.pid, redis=server.pid, subscribers=pids)
            began = time.perf_counter()
            producer.go()
            reports = [await each.report() for each in subscribers]
            return {
                **max(reports, key=lambda report: report["p99_ms"]),
                "updates_per_s": work.total / (time.perf_counter() - began),
                "cpu": used.microseconds(work.total),
            }


def middle(reports: list[dict[str, Any]], name: str, digits: int = 2) -> float:
    return round(statistics.median(report[name] for report in reports), digits)


async def measure_throughput() -> None:
    for burst, updates in UPDATES.items():
        work = Work(url="", executions=EXECUTIONS, updates=updates, burst=burst)
        found: list[dict[str, Any]] = []
        raw: list[dict[str, Any]] = []
        for _ in range(ROUNDS):
            found.append(await end_to_end(work))
            batch = max(1, round(found[-1]["batch"]))
            raw.append(await raw_end_to_end(replace(work, burst=batch, updates=updates // batch * batch)))
        rate = middle(found, "updates_per_s", 0)
        tell(
            f"end to end, {EXECUTIONS:,} executions, {'bursts of 10' if burst > 1 else 'single updates'}",
            rate / TARGET_RATE,
            1.0,
            operator.ge,
            updates_per_s=rate,
            raw_redis_updates_per_s=middle(raw, "updates_per_s", 0),
            share_of_raw=round(rate / middle(raw, "updates_per_s"), 3),
            updates_per_append=middle(found, "batch", 1),
            cpu_us_per_update=found[-1]["cpu"],
            raw_cpu_us_per_update=raw[-1]["cpu"],
        )


async def measure_delay() -> None:
    for rate, seconds in RATES.items():
        work = Work(url="", executions=EXECUTIONS, updates=round(rate * seconds / EXECUTIONS), rate=rate)
        found, raw = await end_to_end(work), await raw_end_to_end(work)
        more = {name: found[name] for name in ("p50_ms", "p99_ms", "max_ms")}
        more |= {f"raw_redis_{name}": raw[name] for name in more}
        cpu = {"cpu_us_per_update": found["cpu"], "raw_cpu_us_per_update": raw["cpu"]}
        name = f"delay, {EXECUTIONS:,} executions, {rate:,} updates/s, p99"
        tell(name, found["p99_ms"] / TARGET_DELAY_MS, 1.0, operator.le, **more, **cpu)


# --- first update -----------------------------------------------------------------------------------------------


async def first_update() -> dict[str, Any]:
    with redis_server() as server, gateways(server.url, 1) as serving:
        work = Work(url=server.url, executions=FIRSTS, updates=1, rate=FIRST_RATE, late=True)
        wanted = Wanted(port=serving[0].port, count=FIRSTS, executions=FIRSTS, last=2, delays=True)
        async with program("fleet_producer", asdict(work)) as producer, readers(wanted) as clients:
            producer.go()
            return await clients.report(2)


async def first_update_in_memory() -> dict[str, Any]:
    async with ours() as server:
        wanted = Wanted(port=server.port, count=FIRSTS, executions=FIRSTS, last=2, delays=True)
        async with readers(wanted) as clients:
            clock = asyncio.get_running_loop().time
            began = clock()
            for number in range(FIRSTS):
                await asyncio.sleep(began + number / FIRST_RATE - clock())
                server.hub.open(name_of(number))
                server.hub.publish(name_of(number), "token", {"content": "token0 ", "sent": time.monotonic_ns()})
            return await clients.report(2)


async def measure_first_update() -> None:
    found: list[dict[str, Any]] = []
    memory: list[dict[str, Any]] = []
    for _ in range(ROUNDS):
        found.append(await first_update())
        memory.append(await first_update_in_memory())
    for name in ("p50_ms", "p99_ms"):
        over = middle(found, name) - middle(memory, name)
        more = {name: middle(found, name), f"memory_{name}": middle(memory, name), "over_ms": round(over, 2)}
        label = f"first update, over the log in memory, {name[:3]}"
        tell(label, over / TARGET_FIRST_MS, 1.0, operator.le, **more)


# --- storm of reconnects ----------------------------------------------------------------------------------------


async def storm(executions: int, behind: int) -> dict[str, Any]:
    """All clients come at once to a gateway that has read none of the executions before."""
    with redis_server() as server:
        producer = StreamHub(fleet_settings(server.url))
        names = [name_of(number) for number in range(executions)]
        for name in names:
            producer.open(name)
            for index in range(behind - 1):
                producer.publish(name, "token", {"content": f"token{index} ", "index": index})
            if producer.writer.buffer is not None and producer.writer.buffer.waiting > 5_000:
                await producer.writer.flush()
        await producer.writer.flush()
        with gateways(f"{server.url}?client_name=gateway", 1) as serving:
            wanted = Wanted(port=serving[0].port, count=STORM, executions=executions, last=behind, at_once=True)
            with Monitor(server, "gateway") as monitor:
                used = Processors(gateway=serving[0].pid, redis=server.pid)
                async with readers(wanted) as clients:
                    report = await clients.report(behind)
                cpu = used.microseconds(STORM)
            counts = monitor.counts()
        await producer.aclose()
    return {**report, "cpu": cpu, "counts": counts, "calls": counts.total() / STORM}


async def storm_in_memory() -> float:
    async with ours(settings()) as server:
        await server.publish(BEHIND - 1)
        async with readers(Wanted(port=server.port, count=STORM, last=BEHIND, at_once=True)) as clients:
            return (await clients.report(BEHIND))["seconds"]


async def measure_storm() -> None:
    cases = {"one execution": (1, BEHIND), f"{STORM:,} executions": (STORM, 10)}
    memory: list[float] = []
    found: dict[str, list[dict[str, Any]]] = {case: [] for case in cases}
    for _ in range(ROUNDS):
        memory.append(await storm_in_memory())
        for case, (executions, behind) in cases.items():
            found[case].append(await storm(executions, behind))
    for case, reports in found.items():
        name = f"storm of {STORM:,} reconnects, {case}"
        seconds = middle(reports, "seconds")
        more: dict[str, Any] = {"seconds": seconds, "cpu_us_per_client": reports[-1]["cpu"]}
        if case == "one execution":
            more["memory_seconds"] = round(statistics.median(memory), 2)
        tell(f"{name}, seconds", seconds / TARGET_STORM_S, 1.0, operator.le, **more)
        counts = {name: round(count / STORM, 3) for name, count in reports[-1]["counts"].most_common()}
        calls = middle(reports, "calls", 3)
        tell(f"{name}, Redis commands a client", calls / TARGET_STORM_CALLS, 1.0, operator.le, calls=calls, by=counts)


# --- idle -------------------------------------------------------------------------------------------------------


async def measure_idle() -> None:
    executions, clients = 100, 1_000
    with redis_server() as server:
        producer = StreamHub(fleet_settings(server.url))
        for number in range(executions):
            producer.open(name_of(number))
        await producer.writer.flush()
        with gateways(f"{server.url}?client_name=gateway", 1) as serving:
            wanted = Wanted(port=serving[0].port, count=clients, executions=executions, at_once=True)
            async with readers(wanted) as reading:
                await asyncio.sleep(1.0)
                with Monitor(server, "gateway") as monitor:
                    used = Processors(gateway=serving[0].pid)
                    await asyncio.sleep(IDLE_S)
                    busy = used.microseconds(1)["gateway"] / 1e6 / IDLE_S
                counts = monitor.counts()
                await reading.report()
        await producer.aclose()
    rate = sum(count for name, count in counts.items() if name not in LEASES) / IDLE_S
    more = {name: round(count / IDLE_S, 2) for name, count in counts.most_common()}
    name = f"idle process, {clients:,} readers of {executions} executions, Redis commands/s without leases"
    tell(name, rate, 1.0, operator.le, commands_per_s=more, processor=round(busy, 4))


# --- producers --------------------------------------------------------------------------------------------------


async def produce(processes: int, *, kind: Any, burst: int = 10) -> tuple[float, dict[str, float]]:
    """Updates a second of producers that share the work, and their processor time."""
    with redis_server() as server:
        each = EXECUTIONS // processes
        async with AsyncExitStack() as stack:
            producers = [
                await stack.enter_async_context(
                    program(
                        "fleet_producer",
                        asdict(
                            Work(
                                url=server.url,
                                kind=kind,
                                executions=each,
                                first=each * process,
                                updates=PRODUCED // EXECUTIONS,
                                burst=burst,
                            )
                        ),
                    )
                )
                for process in range(processes)
            ]
            used = Processors(producers=[each.pid for each in producers], redis=server.pid)
            for producer in producers:
                producer.go()
            reports = [await producer.report() for producer in producers]
            cpu = used.microseconds(PRODUCED)
    return PRODUCED / max(report["seconds"] for report in reports), cpu


async def measure_producers() -> None:
    """Two processes have twice the processors only where there are three: Redis needs one, too."""
    rates: dict[tuple[str, int], list[float]] = {}
    cpu: dict[tuple[str, int], dict[str, float]] = {}
    for _ in range(ROUNDS):
        for kind in ("ours", "raw"):
            for processes in (1, 2):
                rate, cpu[kind, processes] = await produce(processes, kind=kind)
                rates.setdefault((kind, processes), []).append(rate)
    ratios = {
        kind: statistics.median(two / one for one, two in zip(rates[kind, 1], rates[kind, 2], strict=True))
        for kind in ("ours", "raw")
    }
    one = cpu["ours", 1]
    tell(
        "two producing processes to one",
        ratios["ours"],
        TARGET_SCALE,
        operator.ge,
        raw_redis_ratio=round(ratios["raw"], 2),
        updates_per_s={processes: round(statistics.median(rates["ours", processes])) for processes in (1, 2)},
        raw_redis_updates_per_s={processes: round(statistics.median(rates["raw", processes])) for processes in (1, 2)},
        cpu_us_per_update=one,
        cpu_us_per_update_of_two=cpu["ours", 2],
        ratio_with_a_processor_for_each=round(min(2.0, max(one["producers"], one["redis"]) / one["redis"]), 2),
    )


# --- fan-out ----------------------------------------------------------------------------------------------------


async def fan_out(mode: str) -> dict[str, Any]:
    """Deliveries of one producing process to clients on two servers."""
    count, stock = TOKENS[mode], mode == "stock"
    with ExitStack() as stack:
        server: RedisServer = stack.enter_context(redis_server())
        serving = stack.enter_context(gateways(server.url, app=STOCK) if stock else gateways(server.url))
        wanted = Wanted(
            **port_options(serving),
            count=CLIENTS,
            executions=1,
            last=count if stock else count + 1,
            batch=mode == "batch",
            events=("token",),
            at_once=True,
        )
        work = Work(url=server.url, kind="stock" if stock else "ours", updates=count)
        async with program("fleet_producer", asdict(work)) as producer, readers(wanted) as clients:
            used = Processors(producer=producer.pid, redis=server.pid, servers=[each.pid for each in serving])
            began = time.perf_counter()
            producer.go()
            report = await clients.report(count)
            seconds = time.perf_counter() - began
            return {"rate": report["updates"] / seconds, "cpu": used.microseconds(count)}


async def measure_fan_out() -> None:
    found: dict[str, list[dict[str, Any]]] = {mode: [] for mode in TOKENS}
    for _ in range(ROUNDS):
        for mode, reports in found.items():
            reports.append(await fan_out(mode))
    for mode, target in TARGETS.items():
        pairs = zip(found[mode], found["stock"], strict=True)
        more = {
            "deliveries_per_s": middle(found[mode], "rate", 0),
            "stock_deliveries_per_s": middle(found["stock"], "rate", 0),
            "cpu_us_per_update": found[mode][-1]["cpu"],
            "stock_cpu_us_per_update": found["stock"][-1]["cpu"],
        }
        ratio = statistics.median(our["rate"] / their["rate"] for our, their in pairs)
        name = f"fan-out over two servers, {mode} to python-socketio's Redis manager"
        tell(name, ratio, target, operator.ge, **more, clients=CLIENTS)


PARTS: Final = {
    "throughput": measure_throughput,
    "delay": measure_delay,
    "first": measure_first_update,
    "storm": measure_storm,
    "idle": measure_idle,
    "producers": measure_producers,
    "fanout": measure_fan_out,
    "costs": redis_costs.measure,
}


def main(*parts: str) -> None:
    """All parts, or some by name."""
    for part in parts or PARTS:
        uvloop.run(PARTS[part]())


if __name__ == "__main__":
    main(*sys.argv[1:])
