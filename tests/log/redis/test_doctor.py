"""`lg-streaming doctor`: what it finds on real servers, and the rule of a user with the least rights."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot
from typer.testing import CliRunner

from lg_streaming.cli.findings import Finding
from lg_streaming.cli.main import app
from lg_streaming.cli.redis_checks import check_redis
from lg_streaming.cli.redis_facts import check_server
from lg_streaming.log.redis.connection import connect_async
from lg_streaming.log.redis.rights import CLUSTER_COMMANDS, COMMANDS, acl_rule
from lg_streaming.log.redis.target import RedisTarget
from tests.support.redis_server import (
    RedisCluster,
    RedisPair,
    RedisServer,
    redis_server,
    redis_tls,
    valkey_program,
)

SOURCES = Path(__file__).parents[3] / "lg_streaming/log/redis"
SECRET = "hunter2-secret"
CHECKS = [
    *("connection", "server", "rights", "script", "notifications", "eviction", "memory", "persistence"),
    *("replicas", "connections", "latency", "clock"),
]


def run(*arguments: str, **env: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["doctor", *arguments], env={"COLUMNS": "200", **env})
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert SECRET not in done.output
    return done.exit_code, done.stdout, done.stderr


def report(*arguments: str, **env: str) -> tuple[int, dict[str, dict[str, Any]]]:
    code, out, _ = run("--json", *arguments, **env)
    findings = json.loads(out)["findings"]
    return code, {each["check"]: each for each in findings}


def levels(findings: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return the levels that are not ok. The latency depends on what the machine does."""
    return {name: each["level"] for name, each in findings.items() if each["level"] != "ok" and name != "latency"}


def lasting_keys(server: RedisServer) -> list[bytes]:
    """Return the keys that do not expire."""
    return [key for key in server.execute("KEYS", "*") if server.execute("PTTL", key) == -1]


# ---------------------------------------------------------------- servers


def test_a_server_as_it_should_be_has_no_warning() -> None:
    options = {"maxmemory": "100mb", "maxmemory_policy": "noeviction", "appendonly": "yes"}
    with redis_server(**options) as server:
        code, found = report("--log", server.url)
        assert lasting_keys(server) == []
    assert list(found) == CHECKS
    assert (code, levels(found)) == (0, {})
    assert re.fullmatch(r"Redis \d+\.\d+\.\d+, one server", found["server"]["message"])
    assert found["persistence"]["message"] == "append-only file, fsync everysec: a crash loses the last second"


def test_what_a_server_may_lose_is_a_warning() -> None:
    with redis_server(maxmemory="4mb", maxmemory_policy="allkeys-lru", timeout="10") as server:
        code, found = report("--log", server.url)
        assert levels(found) == dict.fromkeys(("eviction", "persistence", "connections"), "warning")
        assert code == 0
        assert found["eviction"]["message"].startswith("allkeys-lru: at the limit Redis removes executions")
        assert found["persistence"]["message"] == "none: a restart of Redis loses all executions"
        server.execute("CONFIG", "SET", "save", "60 1", "maxmemory", "0")
        _, found = report("--log", server.url)
        assert found["persistence"]["message"].startswith("snapshots only (60 1)")
        assert found["memory"]["level"] == "warning"
        used = server.execute("INFO", "memory")["used_memory"]
        server.execute("CONFIG", "SET", "maxmemory", used * 6 // 5)
        _, found = report("--log", server.url)
        assert found["memory"]["advice"] == "Raise maxmemory, or shorten the retention."


def test_a_replica_is_a_failure(shared_redis: RedisServer) -> None:
    with redis_server([f"replicaof 127.0.0.1 {shared_redis.port}"]) as replica:
        code, found = report("--log", replica.url)
    assert code == 1
    assert found["server"]["level"] == "failure"
    assert "address of the master" in found["server"]["advice"]
    assert found["script"]["level"] == "failure"


def test_a_server_without_memory_is_a_failure() -> None:
    with redis_server(maxmemory="1mb") as server:
        code, found = report("--log", server.url)
    assert code == 1
    assert "OutOfMemory" in found["rights"]["message"]
    assert found["notifications"]["level"] == "ok"


def test_tls_and_a_database() -> None:
    with redis_tls() as tls:
        code, found = report("--log", tls.url.replace("?", "/4?"))
    assert code == 0
    assert found["connection"]["message"].startswith(f"rediss://127.0.0.1:{tls.server.port}/4 answers")


def test_a_cluster(cluster: RedisCluster) -> None:
    code, found = report("--log", cluster.url)
    assert code == 0
    assert found["server"]["message"].endswith("cluster of 3 masters")
    for node in cluster.nodes:
        assert lasting_keys(node) == []
    cluster.nodes[1].execute("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    _, found = report("--log", cluster.url)
    assert found["eviction"]["message"].startswith(f"127.0.0.1:{cluster.nodes[1].port}: allkeys-lru")
    cluster.nodes[1].execute("CONFIG", "SET", "maxmemory-policy", "noeviction")


def test_a_node_of_a_cluster_needs_another_url(cluster: RedisCluster) -> None:
    code, found = report("--log", cluster.nodes[0].url)
    assert code == 1
    assert "redis+cluster://" in found["server"]["advice"]


def test_a_pair_with_a_sentinel(pair: RedisPair) -> None:
    code, found = report("--log", pair.url)
    assert code == 0
    assert found["server"]["message"].endswith("master that sentinels watch")
    assert found["replicas"]["message"].startswith("1:")


@pytest.mark.skipif(valkey_program() is None, reason="valkey-server is not installed (Debian 13 has the package)")
def test_valkey() -> None:
    with redis_server(program="valkey-server") as server:
        code, found = report("--log", server.url)
    assert code == 0
    assert found["server"]["message"].startswith("Valkey ")


@pytest.mark.parametrize(
    ("version", "level"), [("6.2.14", "failure"), ("7.0.0", "ok"), ("10.1.0", "ok"), ("7.0-rc1", "ok")]
)
def test_versions(version: str, level: str) -> None:
    facts = {"redis_mode": "standalone", "redis_version": version, "role": "master"}
    assert check_server(facts, "server", 1).level == level


# ---------------------------------------------------------------- the command


def test_the_log_and_the_prefix_come_from_the_environment(shared_redis: RedisServer) -> None:
    prefix = "p" * 64
    code, found = report(LG_STREAMING_LOG=shared_redis.url, LG_STREAMING_REDIS__PREFIX=prefix)
    assert (code, found["script"]["level"]) == (0, "ok")
    _, out, _ = run("--acl", LG_STREAMING_LOG=shared_redis.url, LG_STREAMING_REDIS__PREFIX="shop")
    assert "~shop:* resetchannels &shop:*" in out


def test_the_memory_log_lives_in_one_process() -> None:
    code, out, _ = run()
    assert code == 0
    assert "executions live in one process" in out


def test_findings_are_lines_with_advice(shared_redis: RedisServer) -> None:
    code, out, _ = run("--log", shared_redis.url)
    assert code == 0
    assert re.search(r"^ok +script +an update was appended", out, re.MULTILINE)
    assert re.search(r"^warning +persistence +none: .*\n +→ CONFIG SET appendonly yes", out, re.MULTILINE)


def test_a_finding_is_one_line_where_no_terminal_shows_it(shared_redis: RedisServer) -> None:
    _, out, _ = run("--log", shared_redis.url, COLUMNS="40")
    lines = out.splitlines()
    assert [line.split()[1] for line in lines if not line.startswith(" ")] == CHECKS
    assert all(line.lstrip().startswith("→ ") for line in lines if line.startswith(" "))
    assert all(line == line.rstrip() for line in lines)


def test_a_wrong_password_has_its_own_advice(redis_of_this_test: RedisServer) -> None:
    url = redis_of_this_test.url.replace("redis://", f"redis://bob:{SECRET}@")
    code, found = report("--log", url)
    assert code == 1
    assert [*found] == ["connection"]
    assert "user and password" in found["connection"]["advice"]


def test_no_connection_is_the_only_finding() -> None:
    code, out, _ = run("--log", f"redis://bob:{SECRET}@127.0.0.1:1")
    assert code == 1
    assert out.startswith("failure  connection  redis://bob@127.0.0.1:1: ConnectionError")


@pytest.mark.parametrize("url", ["http://x", "redis://a,b", f"redis://a:{SECRET}:b@c:d", f"redis://a/{SECRET}@b"])
def test_a_wrong_url_is_one_line(url: str) -> None:
    code, out, err = run("--log", url)
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert err.count("\n") == 1


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    for name in [*sys.modules]:
        if name.startswith(("lg_streaming.log.redis", "lg_streaming.cli.redis_checks")):
            monkeypatch.delitem(sys.modules, name)
    code, _, err = run("--log", "redis://127.0.0.1:1")
    assert code == 1
    assert "pip install 'lg-streaming[redis]'" in err


# ---------------------------------------------------------------- rights


def allow(server: RedisServer, *rule: str) -> None:
    server.execute("ACL", "SETUSER", "bob", "reset", f">{SECRET}", *rule)


def rule_of(url: str) -> list[str]:
    """Return the rule that `doctor --acl` prints for a URL, without the beginning of the command."""
    code, out, _ = run("--acl", "--user", "bob", "--log", url)
    assert code == 0
    command = out.split()
    assert command[:3] == ["ACL", "SETUSER", "bob"]
    return [part for part in command[3:] if part != ">PASSWORD"]


def as_bob(url: str) -> str:
    return url.replace("//", f"//bob:{SECRET}@")


def denied(server: RedisServer) -> set[str]:
    """Return what users were denied, except the settings that only `doctor` asks for."""
    entries: list[Any] = server.execute("ACL", "LOG")
    return {each[b"object"].decode() for each in entries} - {"config|get"}


def test_the_rule_is_enough_on_a_server(redis_of_this_test: RedisServer) -> None:
    url = f"{redis_of_this_test.url}/2"
    allow(redis_of_this_test, *rule_of(url))
    code, found = report("--log", as_bob(url))
    assert code == 0
    assert levels(found) == {"memory": "warning", "persistence": "warning"}
    assert denied(redis_of_this_test) == set()


def test_the_rule_is_enough_on_a_cluster(cluster: RedisCluster) -> None:
    for node in cluster.nodes:
        allow(node, *rule_of(cluster.url))
    code, found = report("--log", as_bob(cluster.url))
    assert code == 0
    assert levels(found) == {"memory": "warning", "persistence": "warning"}
    for node in cluster.nodes:
        assert denied(node) == set()


async def test_the_rule_is_enough_while_a_slot_moves(cluster: RedisCluster) -> None:
    key = "lg:{moving}:x"
    for node in cluster.nodes:
        allow(node, *acl_rule("bob", "lg", cluster=True).split()[1:])
    client = connect_async(RedisTarget.parse(as_bob(cluster.url)))
    slot = key_slot(key.encode())
    try:
        target = cluster.another(slot)
        owner = cluster.begin_move(slot, target)
        assert await client.set(key, "1")  # at the target, after ASK
        cluster.finish_move(slot, owner, target)
        assert await client.get(key) == b"1"
    finally:
        await client.aclose()


def test_the_rule_is_enough_with_sentinels(pair: RedisPair) -> None:
    for server in pair.servers:
        allow(server, *rule_of(pair.url))
    code, _ = report("--log", as_bob(pair.url))
    assert code == 0
    assert denied(pair.master) == set()


def test_the_rule_has_every_command_that_scripts_call() -> None:
    scripts = [path.read_text(encoding="utf-8") for path in SOURCES.rglob("*.lua")]
    assert scripts
    called = {name.lower() for script in scripts for name in re.findall(r"call\(['\"](\w+)['\"]", script)}
    assert called <= set(COMMANDS)


def test_the_rule_has_no_command_that_nothing_uses() -> None:
    """Each command is in the source: of a script, or of a client's method or its name in capitals."""
    paths = [*SOURCES.rglob("*.lua"), *SOURCES.rglob("*.py")]
    source = "\n".join(path.read_text(encoding="utf-8") for path in paths if path.name != "rights.py")
    source = source.replace("logger.info(", "")  # a log record, no command
    unused = [
        name for name in COMMANDS if not re.search(rf"['\"]{name.upper()}['\"]|\.{name.replace('|', '_')}\(", source)
    ]
    assert unused == ["info", "client|setname"]  # the doctor asks for one, redis-py sends the other


async def test_each_missing_right_is_found(redis_of_this_test: RedisServer) -> None:
    kept = ("ping", "client|setname", "info")
    allow(
        redis_of_this_test, *acl_rule("bob", "lg").split()[1:], *(f"-{each}" for each in COMMANDS if each not in kept)
    )
    found = {each.check: each for each in await check_redis(as_bob(redis_of_this_test.url), "lg")}
    missing = set(found["rights"].message.partition(": ")[2].split(", "))
    by_notifications = {"subscribe", "unsubscribe", "ssubscribe", "sunsubscribe"}
    assert missing == set(COMMANDS) - set(kept) - by_notifications
    assert {name for name, each in found.items() if each.level == "failure"} == {"rights", "script", "notifications"}


@pytest.mark.parametrize("name", ["subscribe", "unsubscribe", "ssubscribe", "sunsubscribe"])
async def test_a_missing_right_to_notifications_is_found(redis_of_this_test: RedisServer, name: str) -> None:
    allow(redis_of_this_test, *acl_rule("bob", "lg").split()[1:], f"-{name}")
    found = {each.check: each for each in await check_redis(as_bob(redis_of_this_test.url), "lg")}
    assert found["notifications"].level == "failure"


async def test_without_the_right_to_info_the_facts_are_not_known(redis_of_this_test: RedisServer) -> None:
    allow(redis_of_this_test, *acl_rule("bob", "lg").split()[1:], "-info")
    found: dict[str, Finding] = {each.check: each for each in await check_redis(as_bob(redis_of_this_test.url), "lg")}
    assert found["rights"].level == "failure"
    assert found["data"].message.startswith("not known")


def test_errors_of_the_log_are_findings_and_nothing_else(redis_of_this_test: RedisServer) -> None:
    allow(redis_of_this_test, "on", "~lg:*", "+ping", "+client|setname")
    command = [sys.executable, "-m", "lg_streaming", "doctor", "--log", as_bob(redis_of_this_test.url)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert SECRET not in done.stdout


async def test_another_prefix_is_no_one_elses(redis_of_this_test: RedisServer) -> None:
    allow(redis_of_this_test, *acl_rule("bob", "lg").split()[1:])
    found = {each.check: each for each in await check_redis(as_bob(redis_of_this_test.url), "shop")}
    assert {name for name, each in found.items() if each.level == "failure"} == {"rights", "script", "notifications"}


def test_the_rule_of_a_cluster_has_its_commands() -> None:
    plain, cluster = acl_rule("bob", "lg").split(), acl_rule("bob", "lg", cluster=True).split()
    assert set(cluster) - set(plain) == {f"+{name}" for name in CLUSTER_COMMANDS}
    assert set(acl_rule("bob", "lg", db=True).split()) - set(plain) == {"+select"}


def test_a_clock_that_differs_is_a_warning(shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time
    monkeypatch.setattr("lg_streaming.cli.redis_checks.time.time", lambda: now() - 100)
    _, found = report("--log", shared_redis.url)
    assert found["clock"]["level"] == "warning"
    assert found["clock"]["message"].startswith(("100.", "99.9"))
    assert "ahead of this machine" in found["clock"]["message"]
