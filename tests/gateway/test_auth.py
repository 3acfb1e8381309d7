"""Authentication, and rights to read executions."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from lg_streaming.errors import (
    ForbiddenError,
    OriginError,
    StreamingConfigError,
    TokenExpiredError,
    UnauthorizedError,
)
from lg_streaming.gateway.auth.peer import Peer
from lg_streaming.gateway.auth.policy import ANONYMOUS, Grant, Policy, Principal
from lg_streaming.settings import AuthSettings
from tests.gateway.tokens import KEYS, LIFETIME, NOW, SECRET, peer, pem, private_pem, secret_policy, token


# ---------------------------------------------------------------- nobody has set anything up
@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
async def test_in_development_callers_from_this_machine_are_let_in(address: str) -> None:
    assert await Policy(AuthSettings()).authenticate(peer(address)) == ANONYMOUS


@pytest.mark.parametrize(
    "caller",
    [
        peer("192.168.1.7"),
        peer("10.0.0.1"),
        peer("::ffff:10.0.0.1"),
        peer("2001:db8::1"),
        peer(None),
        peer("testclient"),
        peer("0.0.0.0"),
        peer(x_forwarded_for="127.0.0.1"),
        peer(x_forwarded_proto="https"),
        peer(x_forwarded_host="example.com"),
        peer(forwarded="for=127.0.0.1"),
        peer(x_real_ip="127.0.0.1"),
        peer(via="1.1 proxy"),
        peer(host="rebound.example.com:8000"),
        peer(host="127.0.0.1.example.com"),
        peer(host=""),
    ],
)
async def test_in_development_nobody_else_is_let_in(caller: Peer) -> None:
    with pytest.raises(UnauthorizedError, match="LG_STREAMING_AUTH__SECRET") as raised:
        await Policy(AuthSettings()).authenticate(caller)
    assert raised.value.code == 4010


async def test_switched_off_on_purpose_everybody_is_let_in() -> None:
    policy = Policy(AuthSettings(enabled=False))
    assert await policy.authenticate(peer("203.0.113.9", x_forwarded_for="198.51.100.1")) == ANONYMOUS


async def test_a_key_switches_authentication_on() -> None:
    policy = Policy(AuthSettings.model_validate({"secret": SECRET}))
    with pytest.raises(UnauthorizedError, match="token is required"):
        await policy.authenticate(peer())


# ---------------------------------------------------------------- tokens
async def test_a_good_token_says_who_it_is() -> None:
    principal = await secret_policy().authenticate(peer(), token(role="admin"))
    assert (principal.subject, principal.claims["role"]) == ("alice", "admin")
    assert principal.expires_at == NOW + LIFETIME + 5


async def test_an_expired_token_is_told_apart_and_a_little_lateness_forgiven() -> None:
    assert (await secret_policy().verify(token(exp=NOW - 4))).subject == "alice"
    with pytest.raises(TokenExpiredError) as raised:
        await secret_policy().verify(token(exp=NOW - 5))
    assert raised.value.retryable


async def test_audience_and_issuer_are_checked_when_set() -> None:
    policy = secret_policy(audience="streams", issuer="https://login.example.com")
    good: dict[str, Any] = {"aud": ["streams", "other"], "iss": "https://login.example.com"}
    assert (await policy.verify(token(**good))).subject == "alice"
    bad: list[dict[str, Any]] = [{"aud": "other"}, {"aud": None}, {"iss": "https://evil.example.com"}, {"iss": None}]
    for wrong in bad:
        with pytest.raises(UnauthorizedError):
            await policy.verify(token(**{**good, **wrong}))
    assert (await secret_policy().verify(token(**good))).subject == "alice"


@pytest.mark.parametrize("algorithm", KEYS)
async def test_public_keys(algorithm: str) -> None:
    policy = Policy(AuthSettings(enabled=True, public_key=pem(KEYS[algorithm])))
    assert (await policy.verify(token(KEYS[algorithm], algorithm))).subject == "alice"
    for other, key in KEYS.items():
        if other != algorithm:
            with pytest.raises(UnauthorizedError):
                await policy.verify(token(key, other))


def test_a_key_that_cannot_be_used_is_found_at_once() -> None:
    for wrong in (
        "not a key",
        private_pem(KEYS["EdDSA"]),
        pem(rsa.generate_private_key(65537, 1024)),
        pem(rsa.generate_private_key(65537, 2048)).replace("A", "B"),
    ):
        with pytest.raises(StreamingConfigError, match="public_key"):
            Policy(AuthSettings(public_key=wrong))
    with pytest.raises(StreamingConfigError, match=r"auth\.algorithms"):
        Policy(AuthSettings(public_key=pem(KEYS["EdDSA"]), algorithms=("RS256",)))


# ---------------------------------------------------------------- where a token may come from
async def test_message_then_header_then_cookie() -> None:
    policy = secret_policy()
    cookie = f"a=b; lg_streaming_token={token(sub='carol')}"
    assert (
        await policy.authenticate(peer(authorization=f"Bearer {token(sub='bob')}", cookie=cookie), token())
    ).subject == "alice"
    assert (await policy.authenticate(peer(authorization=f"bearer {token(sub='bob')}", cookie=cookie))).subject == "bob"
    assert (await policy.authenticate(peer(cookie=cookie))).subject == "carol"
    with pytest.raises(UnauthorizedError):
        await policy.authenticate(peer(authorization=f"Basic {token()}"))


async def test_the_cookies_name_can_be_set_and_cookies_left_alone() -> None:
    caller = peer(cookie=f"lg_streaming_token={token()}; __Host-watch={token(sub='bob')}")
    assert (await secret_policy().authenticate(caller)).subject == "alice"
    assert (await secret_policy(cookie="__Host-watch").authenticate(caller)).subject == "bob"
    for policy in (secret_policy(cookie=None), secret_policy(cookie="lg_streaming")):
        with pytest.raises(UnauthorizedError, match="a token is required"):
            await policy.authenticate(caller)


@pytest.mark.parametrize(
    ("cookie", "passes"),
    [
        ('a={"b": 1, c}; lg_streaming_token=TOKEN', True),  # others' cookies may be as they like
        ("=; ;;; lg_streaming_token=TOKEN; a", True),
        ('lg_streaming_token="TOKEN"', True),
        ("lg_streaming_token=TOKEN; lg_streaming_token=TOKEN", True),
        ("lg_streaming_token=TOKEN; lg_streaming_token=evil", False),  # set by another host of the domain
        ("lg_streaming_token=", False),
        ("lg_streaming_token", False),
        ("LG_STREAMING_TOKEN=TOKEN", False),
        ("xlg_streaming_token=TOKEN", False),
        ("a=lg_streaming_token=TOKEN", False),
        ("", False),
    ],
)
async def test_a_cookie_is_found_among_others(cookie: str, passes: bool) -> None:
    caller = peer(cookie=cookie.replace("TOKEN", token()))
    if passes:
        assert (await secret_policy().authenticate(caller)).subject == "alice"
    else:
        with pytest.raises(UnauthorizedError, match="a token is required"):
            await secret_policy().authenticate(caller)


async def test_a_cookie_does_not_count_for_a_page_that_only_the_star_lets_in() -> None:
    settings = AuthSettings.model_validate({"secret": SECRET})
    caller = peer(cookie=f"lg_streaming_token={token()}", origin="https://evil.example.com")
    with pytest.raises(UnauthorizedError):
        await Policy(settings, cors_origins=("*",)).authenticate(caller)
    trusted = Policy(settings, cors_origins=("https://evil.example.com",))
    assert (await trusted.authenticate(caller)).subject == "alice"


@pytest.mark.parametrize(
    ("origin", "allowed", "passes"),
    [
        ("http://localhost:8000", (), True),
        ("https://app.example.com", (), False),
        ("http://localhost:9000", (), False),
        ("null", (), False),
        ("https://app.example.com", ("https://app.example.com",), True),
        ("https://APP.example.com", ("https://app.example.com/",), True),
        ("https://app.example.com.evil.com", ("https://app.example.com",), False),
        ("http://app.example.com", ("https://app.example.com",), False),
        ("null", ("*",), True),
    ],
)
async def test_origins(origin: str, allowed: tuple[str, ...], passes: bool) -> None:
    policy = Policy(AuthSettings(enabled=False), cors_origins=allowed)
    if passes:
        await policy.authenticate(peer(origin=origin))
    else:
        with pytest.raises(OriginError):
            await policy.authenticate(peer(origin=origin))


def test_only_pages_of_listed_origins_may_send_cookies() -> None:
    policy = Policy(AuthSettings(enabled=False), cors_origins=("https://app.example.com", "*"))
    listed = policy.cors_headers(peer(origin="https://app.example.com"))
    assert listed["Access-Control-Allow-Origin"] == "https://app.example.com"
    assert listed["Access-Control-Allow-Credentials"] == "true"
    assert policy.cors_headers(peer(origin="https://x.example.com")) == {"Access-Control-Allow-Origin": "*"}
    assert policy.cors_headers(peer()) == {}


# ---------------------------------------------------------------- what they may see
async def granting(*entries: Any) -> Principal:
    return await secret_policy().verify(token(lg_streaming=list(entries)))


async def test_the_owner_may_and_nobody_else() -> None:
    policy = secret_policy()
    alice = await policy.verify(token())
    assert await policy.allows(alice, "read", "exec-1", "alice")
    assert not await policy.allows(alice, "read", "exec-1", "bob")
    assert not await policy.allows(alice, "read", "exec-1", None)


@pytest.mark.parametrize(
    ("glob", "execution_id", "passes"),
    [
        ("acme/*", "acme/run-1", True),
        ("acme/*", "acme/team/run-1", False),
        ("acme/**", "acme/team/run-1", True),
        ("acme/*", "acme", False),
        ("acme/*", "evil/acme/run-1", False),
        ("*", "run-1", True),
        ("*", "acme/run-1", False),
        ("**", "acme/run-1", True),
        ("acme/*/final", "acme/a/final", True),
        ("a.c/*", "abc/x", False),
        ("(a+)+$", "aaaa", False),
        ("exec-1", "exec-1", True),
        ("exec-1", "exec-10", False),
        ("room:*", "room:lobby", True),
        ("room:*", "room:acme/lobby", False),
        ("room:**", "room:acme/lobby", True),
        ("room:acme-*", "room:acme-1", True),
        ("room:acme-*", "room:evil-1", False),
        ("room:*", "lobby", False),
        ("acme/*", "room:acme/lobby", False),
    ],
)
async def test_a_grant_matches_whole_ids(glob: str, execution_id: str, passes: bool) -> None:
    principal = await granting({"actions": ["read"], "executions": [glob]})
    assert await secret_policy().allows(principal, "read", execution_id, "bob") is passes


async def test_a_grant_is_for_its_actions_only() -> None:
    principal = await granting({"actions": ["read"], "executions": ["**"]})
    assert not await secret_policy().allows(principal, "control", "exec-1", None)


@pytest.mark.parametrize(
    "claim",
    [
        {"actions": ["read"], "executions": ["**"]},
        "read",
        [["read"], ["**"]],
        [{"actions": "read", "executions": ["**"]}],
        [{"actions": ["read"], "executions": "**"}],
        [{"actions": ["write"], "executions": ["**"]}],
        [{"actions": ["read"]}],
        [None, 7, {"actions": [1], "executions": [2]}],
    ],
)
async def test_a_claim_of_another_shape_grants_nothing(claim: Any) -> None:
    principal = await secret_policy().verify(token(lg_streaming=claim))
    assert principal.grants == ()


def asked(answer: Any) -> Policy:
    return Policy(
        AuthSettings.model_validate({"enabled": True, "secret": SECRET}), authorize=answer, answer_timeout=0.05
    )


async def test_the_application_is_asked_last_and_may_be_sync_or_async() -> None:
    calls: list[Any] = []

    def sync(principal: Principal, action: str, execution_id: str, owner: str | None) -> bool:
        calls.append((principal.subject, action, execution_id, owner))
        return True

    async def asynchronous(principal: Principal, action: str, execution_id: str, owner: str | None) -> bool:
        return sync(principal, action, execution_id, owner)

    for callback in (sync, asynchronous):
        calls.clear()
        policy = asked(callback)
        alice = await policy.verify(token())
        assert await policy.allows(alice, "read", "own", "alice")
        assert calls == []
        assert await policy.allows(alice, "read", "exec-1", "bob")
        assert calls == [("alice", "read", "exec-1", "bob")]


@pytest.mark.row("HIVE-D18")
async def test_the_applications_answer_is_not_kept() -> None:
    members = {"alice"}
    calls: list[str] = []

    def authorize(principal: Principal, action: str, execution_id: str, owner: str | None) -> bool:
        calls.append(execution_id)
        return principal.subject in members

    policy = asked(authorize)
    alice = await policy.verify(token())
    for execution_id in ("exec-1", "exec-1", "room:lobby"):
        assert await policy.allows(alice, "read", execution_id, None)
    members.clear()
    assert not await policy.allows(alice, "read", "exec-1", None)
    assert calls == ["exec-1", "exec-1", "room:lobby", "exec-1"]


async def _hang(*_: object) -> bool:
    await asyncio.sleep(60)
    return True


def _fail(*_: object) -> bool:
    raise RuntimeError("the application is not well")


def _leave(*_: object) -> bool:
    raise SystemExit(1)


def _say(answer: object) -> Callable[[Principal, str, str, str | None], object]:
    def authorize(_: Principal, __: str, ___: str, ____: str | None) -> object:
        return answer

    return authorize


@pytest.mark.parametrize("answer", [_fail, _leave, _say("yes"), _say(1), _say(None), _hang, _say])
async def test_anything_but_a_clear_yes_is_no(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    policy = asked(answer)
    with pytest.raises(ForbiddenError):
        await policy.check(await policy.verify(token()), "read", "exec-1", "bob")
    caplog.clear()


async def test_with_authentication_off_the_application_alone_decides() -> None:
    policy = Policy(AuthSettings(enabled=False), authorize=lambda _, __, execution_id, ___: execution_id == "public")
    assert await policy.allows(ANONYMOUS, "read", "public", None)
    assert not await policy.allows(ANONYMOUS, "read", "private", None)


def test_a_grant_is_a_value() -> None:
    grant = Grant(actions=frozenset({"read"}), executions=("a/*",))
    assert grant.allows("read", "a/b")
    assert not grant.allows("control", "a/b")
