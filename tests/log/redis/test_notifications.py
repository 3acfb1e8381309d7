import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager

import pytest
from redis.crc import key_slot

from lg_streaming.errors import LogUnavailableError
from lg_streaming.log.redis.connection import AsyncClient, connect_async
from lg_streaming.log.redis.notifications import Notifications
from lg_streaming.log.redis.target import RedisTarget
from tests.support.redis_server import RedisCluster, RedisPair, RedisServer, redis_server

TIMEOUT = 10.0


@asynccontextmanager
async def notifications_of(url: str, ping_interval: float = 3.0) -> AsyncGenerator[tuple[Notifications, AsyncClient]]:
    client = connect_async(RedisTarget.parse(url))
    notifications = Notifications(client, ping_interval=ping_interval)
    try:
        await notifications.connect()
        yield notifications, client
    finally:
        await notifications.aclose()
        await client.aclose()


async def receive(notifications: Notifications, count: int) -> list[tuple[str, bytes | None]]:
    received: list[tuple[str, bytes | None]] = []
    async with asyncio.timeout(TIMEOUT), aclosing(notifications.messages()) as messages:
        while len(received) < count:
            received.append(await anext(messages))
    return received


async def spublish(client: AsyncClient, channel: str, message: str) -> None:
    await client.execute_command("SPUBLISH", channel, message)


def channels_of(prefix: str, count: int) -> list[str]:
    return [f"{prefix}:{{{number}}}:n" for number in range(count)]


async def check_messages_of_each_channel(url: str, prefix: str) -> None:
    async with notifications_of(url) as (notifications, client):
        channels = channels_of(prefix, 20)
        await notifications.subscribe(f"{prefix}:n")
        await notifications.subscribe_sharded(channels)
        for number in range(3):
            for channel in channels:
                await spublish(client, channel, str(number))
        await client.publish(f"{prefix}:n", "all")
        received = await receive(notifications, 61)
        for channel in channels:
            assert [payload for name, payload in received if name == channel] == [b"0", b"1", b"2"]
        assert (f"{prefix}:n", b"all") in received

        await notifications.unsubscribe_sharded([*channels[1:], "unknown"])
        for channel in reversed(channels):
            await spublish(client, channel, "3")
        assert await receive(notifications, 1) == [(channels[0], b"3")]
        await notifications.subscribe_sharded(channels[1:2])
        await spublish(client, channels[1], "4")
        assert await receive(notifications, 1) == [(channels[1], b"4")]


async def test_messages_of_a_server(shared_redis: RedisServer, redis_prefix: str) -> None:
    await check_messages_of_each_channel(shared_redis.url, redis_prefix)


async def test_messages_are_delivered_in_order_until_the_end(shared_redis: RedisServer, redis_prefix: str) -> None:
    """Also those that came before."""
    received: list[bytes | None] = []
    done = asyncio.Event()

    def receive(_channel: str, payload: bytes | None) -> None:
        received.append(payload)
        if payload == b"5":
            done.set()
        assert payload != b"bad"

    async with notifications_of(shared_redis.url) as (notifications, client):
        await notifications.subscribe_sharded([redis_prefix])
        for number in range(3):
            await spublish(client, redis_prefix, str(number))
        await notifications.subscribe(redis_prefix)  # Redis has sent them before
        delivering = asyncio.create_task(notifications.deliver_to(receive))
        for number in range(3, 6):
            await spublish(client, redis_prefix, str(number))
        await asyncio.wait_for(done.wait(), TIMEOUT)
        assert received == [b"%d" % number for number in range(6)]
        await spublish(client, redis_prefix, "bad")
        with pytest.raises(LogUnavailableError, match="AssertionError"):
            await asyncio.wait_for(delivering, TIMEOUT)


async def test_messages_of_a_cluster(cluster: RedisCluster, redis_prefix: str) -> None:
    await check_messages_of_each_channel(cluster.url, redis_prefix)


async def test_messages_of_a_master_that_sentinels_watch(pair: RedisPair, redis_prefix: str) -> None:
    await check_messages_of_each_channel(pair.url, redis_prefix)


async def test_a_closed_connection_is_an_error(shared_redis: RedisServer, redis_prefix: str) -> None:
    async with notifications_of(shared_redis.url) as (notifications, client):
        await notifications.subscribe_sharded([redis_prefix])
        await spublish(client, redis_prefix, "last")
        ids = [each["id"] for each in await client.client_list(_type="pubsub") if each["ssub"] == "1"]
        await client.client_kill_filter(_id=ids[-1])
        assert await receive(notifications, 1) == [(redis_prefix, b"last")]
        for _ in range(2):
            with pytest.raises(LogUnavailableError, match="closed by server"):
                await receive(notifications, 1)
        with pytest.raises(LogUnavailableError):
            await notifications.subscribe_sharded([redis_prefix])
        with pytest.raises(LogUnavailableError):
            await notifications.subscribe(redis_prefix)


async def test_a_server_that_answers_no_ping_is_an_error(redis_of_this_test: RedisServer) -> None:
    async with notifications_of(redis_of_this_test.url, ping_interval=0.1) as (notifications, client):
        await notifications.subscribe_sharded(["a"])
        await asyncio.sleep(0.35)  # several pings are answered
        await spublish(client, "a", "1")
        assert await receive(notifications, 1) == [("a", b"1")]
        redis_of_this_test.pause()
        with pytest.raises(LogUnavailableError, match="no answer to a ping"):
            await receive(notifications, 1)
        redis_of_this_test.resume()


async def test_pings_are_answered_without_a_subscription(redis_of_this_test: RedisServer) -> None:
    async with notifications_of(redis_of_this_test.url, ping_interval=0.05) as (notifications, client):
        await asyncio.sleep(0.2)
        await notifications.subscribe_sharded(["a"])
        await spublish(client, "a", "1")
        assert await receive(notifications, 1) == [("a", b"1")]


async def test_a_server_that_is_away_is_an_error() -> None:
    with pytest.raises(LogUnavailableError):
        async with notifications_of("redis://127.0.0.1:1"):
            pass
    with pytest.raises(LogUnavailableError):
        async with notifications_of("redis+cluster://127.0.0.1:1"):
            pass


async def test_a_missing_right_is_raised_to_the_caller_and_ends_the_messages(redis_prefix: str) -> None:
    with redis_server(["user bob on >secret ~* +@all &lg:*"]) as server:
        async with notifications_of(server.url.replace("//", "//bob:secret@")) as (notifications, _):
            await notifications.subscribe_sharded(["lg:a"])
            for _ in range(2):
                with pytest.raises(LogUnavailableError, match="no permissions to access one of the channels"):
                    await notifications.subscribe_sharded([redis_prefix])
            with pytest.raises(LogUnavailableError, match="lg-streaming doctor"):
                await receive(notifications, 1)


async def test_a_channel_whose_slot_moves_is_subscribed_to_at_the_new_node(
    cluster: RedisCluster, redis_prefix: str
) -> None:
    channels = channels_of(redis_prefix, 6)
    moved = channels[0]
    slot = key_slot(moved.encode())
    async with notifications_of(cluster.url) as (notifications, client):
        await notifications.subscribe_sharded(channels)
        cluster.move(slot, cluster.another(slot))
        assert await receive(notifications, 1) == [(moved, None)]
        for channel in channels:
            await spublish(client, channel, "after")
        assert sorted(await receive(notifications, 6)) == [(channel, b"after") for channel in channels]
        await notifications.unsubscribe_sharded(channels[1:])
        cluster.move(slot, cluster.another(slot))
        assert await receive(notifications, 1) == [(moved, None)]


async def test_a_slot_that_has_moved_is_found_by_a_client_with_an_old_map(
    cluster: RedisCluster, redis_prefix: str
) -> None:
    slot = key_slot(redis_prefix.encode())
    async with notifications_of(cluster.url) as (notifications, client):
        cluster.move(slot, cluster.another(slot))
        await notifications.subscribe_sharded([redis_prefix])
        await spublish(client, redis_prefix, "found")
        assert await receive(notifications, 1) == [(redis_prefix, b"found")]


async def test_a_failover_is_an_error_and_new_notifications_follow_the_new_master(
    pair: RedisPair, redis_prefix: str
) -> None:
    async with notifications_of(pair.url) as (notifications, _):
        await notifications.subscribe_sharded([redis_prefix])
        await asyncio.to_thread(pair.fail_over)
        with pytest.raises(LogUnavailableError):
            await receive(notifications, 1)
    await check_messages_of_each_channel(pair.url, redis_prefix)


async def test_closing_ends_the_messages_and_what_waits(redis_of_this_test: RedisServer) -> None:
    async with notifications_of(redis_of_this_test.url) as (notifications, _):
        redis_of_this_test.pause()
        waiting = asyncio.create_task(notifications.subscribe_sharded(["a"]))
        reading = asyncio.create_task(receive(notifications, 1))
        await asyncio.sleep(0.05)
        await notifications.aclose()
        await notifications.aclose()
        for task in (waiting, reading):
            with pytest.raises(LogUnavailableError, match="closed"):
                await task
        redis_of_this_test.resume()
