"""A cluster of three nodes: production and reading while a node restarts and slots move."""

import asyncio
from collections.abc import Generator

import pytest
from redis.crc import key_slot

from tests.fleet.harness import Observing, Producing, Reading, check_accounted, check_everything, process, until
from tests.support.redis_server import RedisCluster, RedisServer, redis_cluster, wait_until

NAMES = [f"a{number}" for number in range(6)]


@pytest.fixture(scope="module")
def cluster() -> Generator[RedisCluster]:
    with redis_cluster(lines=["appendonly yes", "appendfsync always"]) as running:
        for node in running.nodes:
            node.execute("CONFIG", "SET", "cluster-node-timeout", 500)  # milliseconds
        yield running


def slot_of(prefix: str, name: str) -> int:
    return key_slot(f"{prefix}:{{{name}}}:x".encode())


def is_ready(node: RedisServer) -> bool:
    with node.client() as client:
        return client.cluster("INFO")["cluster_state"] == "ok"


async def test_production_and_reading(cluster: RedisCluster, redis_prefix: str) -> None:
    """Slots move in the middle, all of them twice, and a reader of all executions misses nothing."""
    async with process(cluster.url, redis_prefix) as writer, process(cluster.url, redis_prefix) as other:
        observing = Observing(other)
        await observing.ready()
        for name in NAMES:
            writer.open(name)
        readings = [Reading(other, name) for name in NAMES]
        producers = [Producing(writer, name, pause=0.003) for name in NAMES]
        for reading in readings:
            await reading.reach(30)
        for _ in range(2):
            for name in NAMES:
                slot = slot_of(redis_prefix, name)
                await asyncio.to_thread(cluster.move, slot, cluster.another(slot))
        for producing, reading in zip(producers, readings, strict=True):
            await reading.reach(producing.published + 20)
            last = await producing.finish()
            await writer.close(reading.execution_id)
            await reading.end()
            check_everything(reading, last)
            await observing.reach(reading.execution_id, last)
            assert observing.steps(reading.execution_id) == list(range(1, last + 1))
        observing.close()


@pytest.mark.parametrize("keep_data", [True, pytest.param(False, marks=pytest.mark.soak)])
async def test_a_node_is_killed_and_restarted(cluster: RedisCluster, redis_prefix: str, keep_data: bool) -> None:
    async with process(cluster.url, redis_prefix) as writer, process(cluster.url, redis_prefix) as other:
        for name in NAMES:
            writer.open(name)
        readings = [Reading(other, name) for name in NAMES]
        producers = [Producing(writer, name, pause=0.005) for name in NAMES]
        for reading in readings:
            await reading.reach(20)
        node = cluster.owner(slot_of(redis_prefix, NAMES[0]))
        lost = [name for name in NAMES if cluster.owner(slot_of(redis_prefix, name)) is node]
        node.kill()
        await asyncio.sleep(0.1)
        node.restart(keep_data=keep_data)
        wait_until(lambda: all(is_ready(each) for each in cluster.nodes), "the cluster is ready")
        for producing, reading in zip(producers, readings, strict=True):
            await reading.reach(producing.published + 20)
            last = await producing.finish()
            await writer.close(reading.execution_id)
            await reading.end()
            if keep_data or reading.execution_id not in lost:
                check_everything(reading, last)
            else:
                assert {gap.reason for gap in reading.gaps} == {"epoch_changed"}
                check_accounted(reading, last)
        await until(lambda: writer.health().status == "ok", "the log is available")
