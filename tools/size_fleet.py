#!/usr/bin/env python3
"""Estimate the Redis, the gateways and the memory that a load needs, and simulate its delays and its shards.

    tools/size_fleet.py --executions 1000 --rate 20

`docs/guide/scaling.md` explains the result. The costs are measured values; the options replace them with your own.
"""

import argparse
import functools
import math
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

_BUSY: Final = 0.6  # share of a processor that Redis may use, so that bursts and a failover have room
_CHECK_INTERVAL: Final = 5.0  # seconds between two comparisons of the heads of the executions that are read
_RECORD_TTL: Final = 86_400.0  # seconds for which the record of an ended execution is kept
_MAX_UPDATES: Final = 10_000  # updates that are kept of one execution
_TAIL: Final = 500  # updates that a reader's first read returns
_LOADS: Final = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
_SHARDS: Final = (3, 6, 12)
_APPENDS: Final = 100_000  # of one simulation
_TRIALS: Final = 100


def _option(default: float, text: str) -> Any:
    """Return a field with a default, and the text of its option in `--help`."""
    return field(default=default, metadata={"help": text, "kind": type(default)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Work of a fleet. The defaults are tokens of models, for people."""

    executions: int = _option(1_000, "executions that run at a time")
    rate: float = _option(20.0, "updates a second of one execution")
    size: int = _option(260, "bytes of an update in Redis; a token has about 260")
    readers: float = _option(2.0, "readers of one execution")
    duration: float = _option(60.0, "seconds that an execution runs")
    processes: int = _option(8, "processes that run graphs")
    ttl: float = _option(900.0, "seconds that updates are kept after an execution's last one (retention.ttl)")
    batch: float = _option(0.002, "seconds between two rounds of appends of a process, on average")


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Time of Redis for each operation, and memory, as measured with Redis 7.0 and pipelined appends."""

    append_us: float = _option(33.0, "microseconds of one append")
    update_us: float = _option(1.0, "microseconds of each update of an append")
    kilobyte_us: float = _option(5.0, "microseconds of each KiB of an append")
    notify_us: float = _option(2.0, "microseconds of a notification to one process")
    notify_kilobyte_us: float = _option(3.0, "microseconds of each KiB of a notification")
    read_us: float = _option(30.0, "microseconds of one read")
    read_chunk_us: float = _option(2.5, "microseconds of each chunk of a read")
    head_us: float = _option(0.7, "microseconds of the comparison of one head")
    execution_bytes: float = _option(7_000.0, "bytes of an execution")
    record_bytes: float = _option(2_500.0, "bytes of the record of an execution whose updates have expired")
    update_bytes: float = _option(30.0, "bytes of an update in addition to its size")
    gateway_updates: float = _option(30_000.0, "updates a second that one gateway delivers to its clients")
    gateway_connections: float = _option(10_000.0, "connections of one gateway")
    shard_gib: float = _option(8.0, "GiB of memory of one Redis")


class Demand:
    """Demand of a load on Redis and on the gateways. Times are in seconds, rates a second."""

    def __init__(self, load: Load, costs: Costs) -> None:
        micro, kib = 1e-6, 1_024
        self.load: Final = load
        connections = load.executions * load.readers
        self.deliveries: float = connections * load.rate
        self.gateways: int = max(
            math.ceil(self.deliveries / costs.gateway_updates), math.ceil(connections / costs.gateway_connections), 1
        )
        # Processes that are notified of an execution: the gateways that its readers happen to be connected to.
        self.notified: float = self.gateways * (1 - (1 - 1 / self.gateways) ** load.readers)
        chunks = 1 / (load.batch + 1 / load.rate)  # of one execution; its first update begins a batch
        self.updates_per_append: float = load.rate / chunks
        self.appends: float = load.executions * chunks
        payload = self.updates_per_append * load.size
        self.append_time: float = micro * (
            costs.append_us
            + costs.update_us * self.updates_per_append
            + costs.kilobyte_us * payload / kib
            + self.notified * (costs.notify_us + costs.notify_kilobyte_us * payload / kib)
        )
        self.reads: float = connections / load.duration
        tail = min(_TAIL, load.rate * load.duration / 2)
        self.read_time: float = micro * (costs.read_us + costs.read_chunk_us * tail / self.updates_per_append)
        self.heads: float = load.executions * self.notified / _CHECK_INTERVAL
        self.cpu: float = (
            self.appends * self.append_time + self.reads * self.read_time + self.heads * micro * costs.head_us
        )
        self.bytes_in: float = self.appends * (payload + 300)
        self.bytes_out: float = self.appends * (100 + self.notified * (payload + 150)) + self.reads * tail * load.size
        ended = load.executions / load.duration
        kept = min(load.rate * load.duration, _MAX_UPDATES)
        updates = (load.executions / 2 + ended * load.ttl) * kept
        self.memory: float = (
            (load.executions + ended * load.ttl) * costs.execution_bytes
            + updates * (load.size + costs.update_bytes)
            + ended * max(_RECORD_TTL - load.ttl, 0) * costs.record_bytes
        )


def delays(demand: Demand, busy: float, seed: int) -> tuple[float, float]:
    """Simulate one Redis that is busy for this share of the time; return p50 and p99 of an append, in seconds.

    Redis serves one request after another. Each process sends its appends together, in rounds. A round takes 0.5 to
    1.5 times the batch time. Reads come at random between them.
    """
    chance, load = random.Random(seed), demand.load  # noqa: S311 (a simulation)
    scale = busy / demand.cpu
    appends, reads = demand.appends * scale, demand.reads * scale
    end = _APPENDS / appends
    arrivals: list[tuple[float, int]] = []
    for _ in range(load.processes):
        # The simulation begins in the middle of a round; longer rounds are more likely to be met.
        at = chance.random() * math.sqrt(0.25 + 2 * chance.random()) * load.batch
        while at < end:
            arrivals.append((at, _poisson(chance, appends * load.batch / load.processes)))
            at += load.batch * (0.5 + chance.random())
    arrivals += [(chance.random() * end, -1) for _ in range(_poisson(chance, reads * end))]
    waited, free = list[float](), 0.0
    for at, count in sorted(arrivals):
        free = max(free, at)
        if count < 0:
            free += demand.read_time
        for _ in range(count):
            free += demand.append_time
            waited.append(free - at)
    waited.sort()
    return waited[len(waited) // 2], waited[len(waited) * 99 // 100]


@functools.cache
def imbalance(executions: int, shards: int, seed: int) -> float:
    """Simulate executions whose hashes put them on shards; return the busiest shard's load over the mean, as p95.

    The rates of the executions differ: they have an exponential distribution.
    """
    chance, found = random.Random(seed), list[float]()  # noqa: S311 (a simulation)
    for _ in range(_TRIALS):
        loads = [0.0] * shards
        for _ in range(executions):
            loads[int(chance.random() * shards)] += chance.expovariate(1.0)
        found.append(max(loads) / (sum(loads) / shards))
    return sorted(found)[_TRIALS * 95 // 100]


def shards_for(demand: Demand, costs: Costs, seed: int) -> tuple[int, float]:
    """Return the number of Redis masters that the load needs, and the load of the busiest one over the mean.

    A cluster has three masters at least.
    """
    gib = demand.memory / 2**30
    if demand.cpu <= _BUSY and gib <= costs.shard_gib:
        return 1, 1.0
    shards = max(3, math.ceil(demand.cpu / _BUSY), math.ceil(gib / costs.shard_gib))
    while True:
        factor = imbalance(demand.load.executions, shards, seed)
        if max(demand.cpu / _BUSY, gib / costs.shard_gib) * factor / shards <= 1:
            return shards, factor
        shards += 1


def report(demand: Demand, costs: Costs, seed: int) -> Iterator[str]:
    """Yield the lines of the report."""
    shards, factor = shards_for(demand, costs, seed)
    rows = [
        ("updates a second", f"{demand.load.executions * demand.load.rate:,.0f}"),
        ("appends a second", f"{demand.appends:,.0f}, of {demand.updates_per_append:.1f} updates"),
        ("reads a second", f"{demand.reads:,.0f}, and {demand.heads:,.0f} heads compared"),
        ("processor time of Redis", f"{demand.cpu:.0%} of one processor"),
        ("memory of Redis", f"{demand.memory / 2**30:.1f} GiB"),
        ("network of Redis", f"{demand.bytes_in / 2**20:.1f} MiB/s in, {demand.bytes_out / 2**20:.1f} MiB/s out"),
        ("gateways", f"{demand.gateways}, for {demand.deliveries:,.0f} updates a second to clients"),
        ("Redis masters", f"{shards}" + (f", the busiest at {factor:.2f} of the mean" if shards > 1 else "")),
    ]
    yield from (f"{name:24} {value}" for name, value in rows)
    yield "\nload of one Redis    p50 of an append    p99 of an append"
    for busy in _LOADS:
        median, high = delays(demand, busy, seed)
        yield f"{busy:17.0%} {median * 1e3:16.1f} ms {high * 1e3:16.1f} ms"
    yield "\nexecutions" + "".join(f"{f'{count} masters':>14}" for count in _SHARDS)
    for executions in (100, 1_000, 10_000):
        yield f"{executions:10,}" + "".join(f"{imbalance(executions, count, seed):14.2f}" for count in _SHARDS)


def _poisson(chance: random.Random, mean: float) -> int:
    """Return a random number of a Poisson distribution: events of a unit of time with this mean."""
    count, at = 0, chance.expovariate(1.0)
    while at < mean:
        count, at = count + 1, at + chance.expovariate(1.0)
    return count


def main(arguments: Sequence[str]) -> int:
    """Print the report, and return the exit status."""
    parser = argparse.ArgumentParser(prog="tools/size_fleet.py", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for each in (*fields(Load), *fields(Costs)):
        parser.add_argument(
            f"--{each.name.replace('_', '-')}",
            type=each.metadata["kind"],
            default=each.default,
            metavar="N",
            help=each.metadata["help"],
        )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="seed of the simulations")
    chosen = vars(parser.parse_args(arguments))
    load = Load(**{each.name: chosen[each.name] for each in fields(Load)})
    costs = Costs(**{each.name: chosen[each.name] for each in fields(Costs)})
    print(*report(Demand(load, costs), costs, chosen["seed"]), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
