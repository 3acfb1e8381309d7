import asyncio
import importlib
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import cast

import pytest
import redis
from redis import exceptions
from redis.crc import key_slot

from lg_streaming.errors import LogUnavailableError, MissingExtraError
from lg_streaming.log.redis.connection import AsyncClient, SyncClient, connect_async, connect_sync, to_unavailable
from lg_streaming.log.redis.target import RedisTarget
from tests.support.redis_server import (
    RedisCluster,
    RedisPair,
    RedisServer,
    redis_server,
    redis_tls,
    valkey_program,
    wait_until,
)

SECRET = "hunter2-secret"


@contextmanager
def sync_client(url: str) -> Generator[SyncClient]:
    client = connect_sync(RedisTarget.parse(url))
    try:
        yield client
    finally:
        client.close()


@asynccontextmanager
async def async_client(url: str) -> AsyncGenerator[AsyncClient]:
    client = connect_async(RedisTarget.parse(url))
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def both_clients(url: str) -> AsyncGenerator[tuple[SyncClient, AsyncClient]]:
    async with async_client(url) as client:
        sync = await asyncio.to_thread(connect_sync, RedisTarget.parse(url))  # a cluster's connects at once
        try:
            yield sync, client
        finally:
            sync.close()


async def check_that_both_work(url: str, key: str) -> None:
    """Check that the sync client and the async client each read what the other writes."""
    async with both_clients(url) as (sync, client):
        assert sync.set(key, "one")
        assert await client.get(key) == b"one"
        assert await client.set(key, "two")
        assert sync.get(key) == b"two"


@contextmanager
def unavailable() -> Generator[pytest.ExceptionInfo[LogUnavailableError]]:
    """Expect an error that is mapped to a `LogUnavailableError`."""
    with pytest.raises(LogUnavailableError) as caught:  # noqa: PT012 (the block is the caller's)
        try:
            yield caught
        except Exception as error:
            raise to_unavailable(error) from error


async def answer_of(call: Callable[[], Awaitable[object]]) -> object:
    """Return what a call returns, at the latest at its third try: before, it may be unavailable."""
    for _ in range(2):
        try:
            return await call()
        except Exception as error:
            if not isinstance(to_unavailable(error), LogUnavailableError):
                raise
    return await call()


# ---------------------------------------------------------------- each kind of URL


async def test_a_server(shared_redis: RedisServer, redis_prefix: str) -> None:
    await check_that_both_work(f"{shared_redis.url}/3", redis_prefix)
    assert redis_prefix.encode() in shared_redis_keys(shared_redis, db=3)


def shared_redis_keys(server: RedisServer, db: int) -> list[bytes | str]:
    with server.client(db=db) as client:
        return client.keys()


async def test_a_socket(shared_redis: RedisServer, redis_prefix: str) -> None:
    await check_that_both_work(f"unix://{shared_redis.socket}?db=2", redis_prefix)
    assert redis_prefix.encode() in shared_redis_keys(shared_redis, db=2)


async def test_tls_with_a_certificate(redis_prefix: str) -> None:
    with redis_tls() as tls:
        await check_that_both_work(f"{tls.url}&ssl_min_version=TLSv1.3", redis_prefix)
        with sync_client(f"rediss://127.0.0.1:{tls.server.port}") as stranger, unavailable():
            stranger.ping()  # the authority is unknown to it
        with sync_client(tls.url.split("&")[0]) as stranger, unavailable():
            stranger.ping()  # it has no certificate


async def test_tls_that_checks_nothing(redis_prefix: str) -> None:
    with redis_tls() as tls:
        _, certificate = tls.url.split("&", 1)
        url = f"rediss://127.0.0.1:{tls.server.port}?ssl_cert_reqs=none&{certificate}"
        await check_that_both_work(url, redis_prefix)


async def test_a_cluster(cluster: RedisCluster, redis_prefix: str) -> None:
    for number in range(6):
        await check_that_both_work(cluster.url, f"{redis_prefix}:{number}")


async def test_one_node_is_enough_to_find_a_cluster(cluster: RedisCluster, redis_prefix: str) -> None:
    url = f"redis+cluster://127.0.0.1:1,127.0.0.1:{cluster.nodes[2].port}"
    for number in range(6):
        await check_that_both_work(url, f"{redis_prefix}:{number}")


async def test_sentinels(pair: RedisPair, redis_prefix: str) -> None:
    url = pair.url.replace("//", "//127.0.0.1:1,")  # the first one is away
    await check_that_both_work(url, redis_prefix)


@pytest.mark.skipif(valkey_program() is None, reason="valkey-server is not installed (Debian 13 has the package)")
async def test_valkey(redis_prefix: str) -> None:
    with redis_server(program="valkey-server") as server:
        await check_that_both_work(server.url, redis_prefix)


async def test_a_user_with_a_password(redis_prefix: str) -> None:
    password = "p/a:s@s#?"
    with redis_server([f'user bob on ">{password}" ~* &* +@all', "user default off"]) as server:
        url = f"redis://bob:p%2Fa:s%40s%23%3F@127.0.0.1:{server.port}"
        await check_that_both_work(url, redis_prefix)
        with sync_client(url.replace("p%2Fa", SECRET)) as client, unavailable() as caught:
            client.ping()
        assert SECRET not in str(caught.value)


def test_connections_have_a_name(shared_redis: RedisServer) -> None:
    with sync_client(shared_redis.url) as client:
        assert client.client_getname() == "lg_streaming"
    with sync_client(f"{shared_redis.url}?client_name=web&socket_timeout=0.5") as client:
        assert client.client_getname() == "web"


def test_no_client_contains_a_password_in_its_repr(shared_redis: RedisServer) -> None:
    with sync_client(shared_redis.url.replace("//", f"//bob:{SECRET}@")) as client:
        assert SECRET not in repr(client)


# ---------------------------------------------------------------- what fails


async def test_a_failover_is_an_error_at_most_and_then_the_new_master_answers(
    pair: RedisPair, redis_prefix: str
) -> None:
    old = pair.master
    async with both_clients(pair.url) as (sync, client):
        assert sync.set(redis_prefix, "kept")
        assert await client.get(redis_prefix) == b"kept"
        pair.wait_for_replica()
        await asyncio.to_thread(pair.fail_over)
        assert pair.master is not old

        async def write() -> object:
            return sync.set(redis_prefix, "new")

        assert await answer_of(write)
        assert await answer_of(lambda: client.get(redis_prefix)) == b"new"
        assert pair.master.execute("GET", redis_prefix) == b"new"


async def test_slots_that_move_are_followed_without_retries(cluster: RedisCluster, redis_prefix: str) -> None:
    slot = key_slot(redis_prefix.encode())
    script = "redis.call('INCR', KEYS[1]) return redis.call('GET', KEYS[1])"
    async with both_clients(cluster.url) as (sync, client):
        for number in (0, 2):  # twice: the second move finds what the first one has cached
            assert sync.eval(script, 1, redis_prefix) == str(number * 3 + 1).encode()
            target = cluster.another(slot)
            owner = cluster.begin_move(slot, target)
            assert await client.eval(script, 1, redis_prefix) == str(number * 3 + 2).encode()
            cluster.move_keys(slot, owner, target)
            # ASK: the key is at the target, and the slot is still the owner's.
            assert await client.eval(script, 1, redis_prefix) == str(number * 3 + 3).encode()
            assert sync.eval(script, 1, redis_prefix) == str(number * 3 + 4).encode()
            cluster.finish_move(slot, owner, target)
            # MOVED
            assert await client.eval(script, 1, redis_prefix) == str(number * 3 + 5).encode()
            assert sync.eval(script, 1, redis_prefix) == str(number * 3 + 6).encode()


async def test_pipelines_follow_slots_that_move(cluster: RedisCluster, redis_prefix: str) -> None:
    slot = key_slot(redis_prefix.encode())
    script = "return redis.call('INCR', KEYS[1])"
    async with both_clients(cluster.url) as (sync, client):
        assert sync.eval(script, 1, redis_prefix) == 1
        assert await client.eval(script, 1, redis_prefix) == 2
        cluster.move(slot, cluster.another(slot))
        pipeline = sync.pipeline()
        for _ in range(3):
            pipeline.execute_command("EVAL", script, 1, redis_prefix)  # `eval` is refused
        pipeline.execute_command("EVAL", script, 1, f"{redis_prefix}-other")
        assert pipeline.execute(raise_on_error=False) == [3, 4, 5, 1]
        batch = client.pipeline()
        for _ in range(3):
            batch.execute_command("EVAL", script, 1, redis_prefix)
        assert await batch.execute(raise_on_error=False) == [6, 7, 8]


Fault = Callable[[RedisServer], None]


def kill(server: RedisServer) -> None:
    server.kill()


def pause(server: RedisServer) -> None:
    server.pause()


def fill(server: RedisServer) -> None:
    server.execute("CONFIG", "SET", "maxmemory", "1")


def make_read_only(server: RedisServer) -> None:
    server.execute("REPLICAOF", "127.0.0.1", "1")


def demand_replicas(server: RedisServer) -> None:
    server.execute("CONFIG", "SET", "min-replicas-to-write", "1")


def run_a_script_without_end(server: RedisServer) -> None:
    server.execute("CONFIG", "SET", "lua-time-limit", "1")
    with server.client() as client:
        connection = client.connection_pool.get_connection()
        connection.send_command("EVAL", "while true do end", 0)
        wait_until(lambda: is_busy(server), "the script is slow")
        client.connection_pool.release(connection)


def is_busy(server: RedisServer) -> bool:
    try:
        server.execute("GET", "a")
    except redis.ResponseError as error:
        return str(error).startswith("BUSY")
    return False


@pytest.mark.parametrize("fault", [kill, pause, fill, make_read_only, demand_replicas, run_a_script_without_end])
async def test_what_a_later_try_may_not_have_is_unavailable(redis_of_this_test: RedisServer, fault: Fault) -> None:
    url = f"{redis_of_this_test.url}?socket_timeout=0.3"
    script = "return redis.call('SET', KEYS[1], 'x')"
    async with both_clients(url) as (sync, client):
        assert sync.ping()
        assert await client.ping()
        fault(redis_of_this_test)
        with unavailable():
            sync.set("a", "1")
        with unavailable():
            await client.eval(script, 1, "a")


async def test_after_a_restart_clients_work_again(redis_of_this_test: RedisServer) -> None:
    async with both_clients(redis_of_this_test.url) as (sync, client):
        sync.set("a", "1")
        assert await client.get("a") == b"1"
        redis_of_this_test.restart(keep_data=True)
        assert sync.get("a") == b"1"  # an idle connection that the server has closed is not used
        assert await answer_of(lambda: client.get("a")) == b"1"
        redis_of_this_test.restart(keep_data=False)
        assert sync.get("a") is None
        assert await answer_of(lambda: client.get("a")) is None


async def test_no_command_is_sent_twice(redis_of_this_test: RedisServer) -> None:
    def blocked() -> bool:
        return redis_of_this_test.execute("INFO", "clients")["blocked_clients"] == 1

    async with both_clients(redis_of_this_test.url) as (sync, client):
        calls: list[Awaitable[object]] = [
            asyncio.to_thread(cast("Callable[..., object]", sync.execute_command), "BLPOP", "list", 3),
            cast("Awaitable[object]", client.execute_command("BLPOP", "list", 3)),
        ]
        for call in calls:
            waiting = asyncio.ensure_future(call)
            await asyncio.to_thread(wait_until, blocked, "the command waits")
            redis_of_this_test.execute("CLIENT", "KILL", "TYPE", "normal")
            with pytest.raises(redis.ConnectionError):
                await waiting
    statistics = redis_of_this_test.execute("INFO", "commandstats")
    assert statistics["cmdstat_blpop"]["calls"] == 2


async def test_a_cluster_without_a_node_is_unavailable() -> None:
    url = "redis+cluster://127.0.0.1:1"
    with pytest.raises(LogUnavailableError):
        await asyncio.to_thread(connect_sync, RedisTarget.parse(url))
    with unavailable():
        async with async_client(url) as client:
            await client.get("a")


def test_errors_of_the_program_stay_what_they_are(shared_redis: RedisServer, redis_prefix: str) -> None:
    with sync_client(shared_redis.url) as client:
        client.set(redis_prefix, "text")
        with pytest.raises(exceptions.ResponseError) as caught:
            client.lpush(redis_prefix, "x")
    assert to_unavailable(caught.value) is caught.value
    for error in (exceptions.NoPermissionError("no"), exceptions.NoScriptError("no"), ValueError("no")):
        assert to_unavailable(error) is error


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.delitem(sys.modules, "lg_streaming.log.redis.connection")
    with pytest.raises(MissingExtraError, match=r"pip install 'lg-streaming\[redis\]'"):
        importlib.import_module("lg_streaming.log.redis.connection")


async def test_a_connection_that_uvloop_has_closed() -> None:
    """Transports of uvloop raise RuntimeError where those of asyncio raise ConnectionResetError."""
    uvloop = pytest.importorskip("uvloop")

    def write_to_closed() -> Exception:
        async def write(server: asyncio.Server) -> Exception:
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.transport.abort()
            await asyncio.sleep(0)
            try:
                writer.writelines([b"PING"])
            except Exception as error:  # noqa: BLE001 (compared below)
                return error
            raise AssertionError("the transport is open")

        async def run() -> Exception:
            async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) as server:
                return await write(server)

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(run())

    error = await asyncio.to_thread(write_to_closed)
    assert isinstance(error, RuntimeError)
    assert isinstance(to_unavailable(error), LogUnavailableError)
    assert to_unavailable(RuntimeError("another")).args == ("another",)
