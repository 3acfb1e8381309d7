"""The page on operations: its commands, configurations and tables against real servers and the code."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import redis
from redis.exceptions import NoPermissionError

from lg_streaming.log.redis.connection import connect_sync
from lg_streaming.log.redis.rights import acl_rule
from lg_streaming.log.redis.target import OPTIONS, RedisTarget
from tests.docs.fences import Block, blocks_of
from tests.support.redis_server import RedisPair, RedisServer, redis_server, redis_tls

PAGE = Path(__file__).parents[3] / "docs/guide/operations.md"
BLOCKS = list(blocks_of(PAGE))


def blocks(language: str, beginning: str = "") -> list[Block]:
    return [block for block in BLOCKS if block.language == language and block.code.startswith(beginning)]


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the first table with this heading of its first column."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(rf"^\| {re.escape(heading)} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert found is not None
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines()]


def codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_each_redis_command_is_one(redis_of_this_test: RedisServer) -> None:
    redis_of_this_test.execute("HSET", "lg:{exec-1}:x", "h", "1")
    redis_of_this_test.execute("XADD", "lg:{exec-1}:u", "1-0", "n", "1")
    commands = [line for block in blocks("redis") for line in block.code.splitlines()]
    assert len(commands) > 10
    for command in commands:
        redis_of_this_test.execute(*command.split())
    assert redis_of_this_test.execute("CONFIG", "GET", "maxmemory-policy") == {b"maxmemory-policy": b"noeviction"}
    assert redis_of_this_test.execute("CONFIG", "GET", "appendonly") == {b"appendonly": b"yes"}


def test_the_urls_name_the_forms_of_redis() -> None:
    targets = [RedisTarget.parse(codes(cells[0])[0]) for cells in rows("URL")]
    assert [target.kind for target in targets] == ["server", "server", "socket", "sentinel", "cluster"]
    assert targets[1].tls
    assert targets[3].service == "lg"
    assert len(targets[4].hosts) == 3
    assert RedisTarget.parse("redis://user:p%40ss@localhost").password == "p@ss"


def test_each_option_of_a_url_is_on_the_page_with_its_default() -> None:
    table = rows("option")
    assert [name for cells in table for name in codes(cells[0])] == list(OPTIONS)
    defaults = {name: cells[1].strip("`") for cells in table for name in codes(cells[0])}
    with redis.Redis() as other:
        theirs = other.connection_pool.connection_kwargs
    client = connect_sync(RedisTarget.parse("redis://localhost"))
    assert isinstance(client, redis.Redis)
    with client:
        ours = {**theirs, **client.connection_pool.connection_kwargs}
    for name in ("socket_connect_timeout", "health_check_interval", "client_name", "db"):
        shown = f"{ours[name]:g}" if isinstance(ours[name], float) else str(ours[name])
        assert shown == defaults[name]


def test_the_configuration_of_tls_starts_a_server() -> None:
    (block,) = blocks("conf", "port 0")
    with redis_tls() as tls:
        lines = block.code.replace("/etc/redis/tls", str(tls.folder)).replace("tls-port 6379", "tls-port {port}")
        with redis_server(lines.splitlines()) as server:
            (shell,) = (each for each in blocks("console") if "ssl_ca_certs" in each.code)
            url = re.findall(r'LOG="(.*)"', shell.code.replace("\\\n", ""))[0].replace("$FILES", str(tls.folder))
            url = url.replace("redis.example.com", f"127.0.0.1:{server.port}").replace("/app.", "/client.")
            client = connect_sync(RedisTarget.parse(url))
            try:
                assert client.ping()
            finally:
                client.close()


def test_the_rule_is_that_of_the_doctor(redis_of_this_test: RedisServer) -> None:
    (block,) = blocks("text", "ACL SETUSER")
    rule = acl_rule("lg_streaming", "lg").split()
    assert block.code.split() == ["ACL", "SETUSER", *rule[:2], ">PASSWORD", *rule[2:]]
    redis_of_this_test.execute(*block.code.split())
    with redis_of_this_test.client(username="lg_streaming", password="PASSWORD") as client:
        assert client.set("lg:a", "1")
        with pytest.raises(NoPermissionError):
            client.get("other")


def test_the_checks_are_those_of_the_doctor() -> None:
    (block,) = blocks("text", "ok ")
    lines = [line for line in block.code.splitlines() if not line.startswith(" ")]
    shown = [line.split()[1] for line in lines]
    assert shown == [codes(cells[0])[0] for cells in rows("check")]


def test_the_sentinels_configuration_and_its_users_rights(pair: RedisPair) -> None:
    (block,) = blocks("conf", "sentinel")
    for line in block.code.splitlines():
        words = line.split()
        if words[1] != "monitor":
            pair.sentinel.execute("SENTINEL", "SET", "lg", words[1], words[3])
    (rights,) = re.findall(r"A sentinel's user needs `(.*)`", PAGE.read_text(encoding="utf-8"))
    pair.sentinel.execute("ACL", "SETUSER", "bob", "on", ">secret", "-@all", *rights.split())
    client = connect_sync(RedisTarget.parse(f"{pair.url}?sentinel_username=bob&sentinel_password=secret"))
    try:
        assert client.set("lg:a", "1")
    finally:
        client.close()


def test_the_backup_can_be_restored(redis_of_this_test: RedisServer, tmp_path: Path) -> None:
    if shutil.which("redis-cli") is None:
        pytest.skip("redis-cli is not installed: make tools")
    (block,) = (each for each in blocks("console") if "--rdb" in each.code)
    redis_of_this_test.execute("SET", "lg:a", "kept")
    command = block.code.strip().removeprefix("$ ").replace("6379", str(redis_of_this_test.port))
    command = command.replace("/var/backups", str(tmp_path))
    subprocess.run(command.split(), check=True, capture_output=True, timeout=30)
    with redis_server([f"dir {tmp_path}", "dbfilename lg.rdb"]) as restored:
        assert restored.execute("GET", "lg:a") == b"kept"


def test_the_failover_is_a_command_of_sentinels(pair: RedisPair) -> None:
    if shutil.which("redis-cli") is None:
        pytest.skip("redis-cli is not installed: make tools")
    (block,) = (each for each in blocks("console") if "FAILOVER" in each.code)
    command = block.code.strip().removeprefix("$ ").replace("26379", str(pair.sentinel.port))
    done = subprocess.run(command.split(), check=True, capture_output=True, timeout=30)
    assert done.stdout.strip() in {b"OK", b"NOGOODSLAVE No suitable replica to promote"}
