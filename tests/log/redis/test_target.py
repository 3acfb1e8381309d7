import traceback
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lg_streaming.errors import StreamingConfigError
from lg_streaming.log.redis.target import RedisTarget

SECRET = "hunter2-secret"


@pytest.mark.parametrize(
    ("url", "kind", "tls", "hosts", "service", "db"),
    [
        ("redis://", "server", False, [("localhost", 6379)], None, 0),
        ("redis://db", "server", False, [("db", 6379)], None, 0),
        ("redis://db:7000/", "server", False, [("db", 7000)], None, 0),
        ("rediss://db:7000/4", "server", True, [("db", 7000)], None, 4),
        ("redis://[::1]:7000?db=4", "server", False, [("::1", 7000)], None, 4),
        (
            "redis+cluster://a,b:7000,[fe80::1]:7001",
            "cluster",
            False,
            [("a", 6379), ("b", 7000), ("fe80::1", 7001)],
            None,
            0,
        ),
        ("rediss+cluster://a/0", "cluster", True, [("a", 6379)], None, 0),
        ("redis+sentinel://a,b:7000/lg", "sentinel", False, [("a", 26379), ("b", 7000)], "lg", 0),
        ("rediss+sentinel://a/lg/3", "sentinel", True, [("a", 26379)], "lg", 3),
    ],
)
def test_a_url_names_servers(  # noqa: PLR0917 (the columns of the table)
    url: str, kind: str, tls: bool, hosts: list[tuple[str, int]], service: str | None, db: int
) -> None:
    target = RedisTarget.parse(url)
    assert (target.kind, target.tls, list(target.hosts), target.service, target.db) == (kind, tls, hosts, service, db)
    assert (target.username, target.password, target.path) == (None, None, None)
    assert RedisTarget.parse(str(target)) == target


def test_a_url_names_a_socket() -> None:
    target = RedisTarget.parse("unix://bob:pa%2Fss@/run/my%20redis.sock?db=2")
    assert (target.kind, target.path, target.db) == ("socket", "/run/my redis.sock", 2)
    assert (target.username, target.password) == ("bob", "pa/ss")


def test_options_are_typed(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.touch()
    target = RedisTarget.parse(
        f"rediss://db?socket_timeout=0.5&socket_keepalive=no&max_connections=7&ssl_ca_certs={authority}"
        "&ssl_min_version=TLSv1.3&client_name=web%201"
    )
    assert dict(target.options) == {
        "socket_timeout": 0.5,
        "socket_keepalive": False,
        "max_connections": 7,
        "ssl_ca_certs": str(authority),
        "ssl_min_version": "TLSv1.3",
        "client_name": "web 1",
    }


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "begins with one of"),
        ("localhost:6379", "begins with one of redis://, rediss://, unix://"),
        ("http://db", "begins with one of"),
        ("redis://db:70000", "host 1"),
        ("redis://db:0", "host 1"),
        ("redis://db:http", "host 1"),
        ("redis://a,b", "several hosts"),
        ("redis://[::1", "brackets"),
        ("redis+cluster://a,,b", "host 2"),
        ("redis+cluster://", "host 1"),
        ("redis+cluster://a/1", "only database 0"),
        ("redis+sentinel://a", "service name"),
        ("redis+sentinel://a/", "service name"),
        ("redis+sentinel://a/lg/one", "number of a database"),
        ("redis://db/one", "number of a database"),
        ("redis://db/1?db=2", "two databases"),
        ("unix://run/redis.sock", "three slashes"),
        ("redis://db?timeout=1", "unknown option 'timeout'"),
        ("redis://db?socket_timeout=0", "socket_timeout of the Redis URL: a number of seconds above 0"),
        ("redis://db?socket_timeout=1&socket_timeout=2", "twice"),
        ("redis://db?socket_keepalive=perhaps", "yes or no"),
        ("redis://db?max_connections=-1", "an integer from 1"),
        ("redis://db?ssl_cert_reqs=none", "needs TLS"),
        ("rediss://db?ssl_cert_reqs=perhaps", "one of required, optional, none"),
        ("rediss://db?ssl_ca_certs=/nowhere/ca.pem", "cannot be read"),
        ("rediss://db?client_name=", "a value is needed"),
        ("redis://db?sentinel_password=x", "for redis\\+sentinel:// only"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused(url: str, problem: str) -> None:
    with pytest.raises(StreamingConfigError, match=problem):
        RedisTarget.parse(url)


def test_a_certificate_needs_its_key(tmp_path: Path) -> None:
    (tmp_path / "pem").touch()
    with pytest.raises(StreamingConfigError, match="belong together"):
        RedisTarget.parse(f"rediss://db?ssl_certfile={tmp_path}/pem")


@given(
    scheme=st.sampled_from(["redis", "rediss", "unix", "redis+cluster", "redis+sentinel", "http", ""]),
    before=st.text(alphabet="a:/@#?[]%,& ", max_size=4),
    after=st.text(alphabet="a:/@#?[]%,& =", max_size=8),
)
@example(scheme="redis", before="/", after="@db")
@example(scheme="redis", before="[", after="]@db")
@example(scheme="redis", before="?", after="=1@db")
def test_no_message_contains_a_password(scheme: str, before: str, after: str) -> None:
    url = f"{scheme}://user:{before}{SECRET}{after}@db:6379/1?max_connections=2"
    shown, secret = described(url)
    assert SECRET not in shown or SECRET not in secret


def described(url: str) -> tuple[str, str]:
    """Return what is shown of a URL or of the error that it is, and the password that was read."""
    try:
        target = RedisTarget.parse(url)
    except StreamingConfigError as error:
        return "".join(traceback.format_exception(error, chain=True)).replace(url, ""), SECRET
    return f"{target!r} {target}", target.password or ""


def test_neither_repr_nor_str_contains_the_sentinels_password() -> None:
    target = RedisTarget.parse(f"redis+sentinel://bob:{SECRET}@a/lg?sentinel_password={SECRET}")
    assert target.options["sentinel_password"] == SECRET
    assert SECRET not in f"{target!r} {target}"
    assert str(target) == "redis+sentinel://bob@a:26379/lg"
