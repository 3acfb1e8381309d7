"""Keys that an identity provider publishes and rotates."""

import asyncio
import json
import ssl
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from lg_streaming.errors import KeysUnavailableError, UnauthorizedError
from lg_streaming.gateway.auth.jwks import RemoteKeys
from lg_streaming.gateway.auth.policy import Policy
from lg_streaming.settings import AuthSettings
from tests.gateway.site import raw_client, site
from tests.gateway.tokens import KEYS, NOW, SECRET, jwk, token

OTHER = ed25519.Ed25519PrivateKey.generate()


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@dataclass(slots=True, kw_only=True)
class Provider:
    """An identity provider's key address; what it answers can be changed."""

    url: str = ""
    answer: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict[str, str])
    asked: int = 0
    may_answer: threading.Event = field(default_factory=threading.Event)

    def publish(self, *keys: Any) -> None:
        self.answer = json.dumps({"keys": list(keys)}).encode()


@contextmanager
def provider(*keys: Any, tls: ssl.SSLContext | None = None) -> Generator[Provider]:
    given = Provider()
    given.publish(*keys)
    given.may_answer.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given.asked += 1
            given.may_answer.wait(10)
            self.send_response(given.status)
            for name, value in given.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(given.answer)))
            self.end_headers()
            self.wfile.write(given.answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    given.url = f"http{'' if tls is None else 's'}://127.0.0.1:{server.server_port}/keys"
    try:
        yield given
    finally:
        given.may_answer.set()
        server.shutdown()
        server.server_close()
        thread.join()


def policy(given: Provider, clock: Clock | None = None, **settings: Any) -> Policy:
    auth = AuthSettings.model_validate({"jwks_url": given.url, **settings})
    keys = RemoteKeys(given.url, auth.algorithms, clock=clock or Clock())
    return Policy(auth, clock=lambda: NOW, keys=keys)


def by(kid: str, key: Any = KEYS["EdDSA"], algorithm: str = "EdDSA", **headers: Any) -> str:
    return token(key, algorithm, headers={"kid": kid, **headers})


async def refused(checking: Policy, forged: str) -> None:
    with pytest.raises(UnauthorizedError) as raised:
        await checking.verify(forged)
    assert (raised.value.code, raised.value.message) == (4010, "the token is not valid")


ALL = [jwk(key, algorithm, kid=algorithm, use="sig") for algorithm, key in KEYS.items()]


# ---------------------------------------------------------------- choosing a key
@pytest.mark.parametrize("algorithm", KEYS)
async def test_the_key_id_chooses_the_key(algorithm: str) -> None:
    with provider(*ALL) as given:
        checking = policy(given)
        assert (await checking.verify(by(algorithm, KEYS[algorithm], algorithm))).subject == "alice"
        for other, key in KEYS.items():
            if other != algorithm:
                await refused(checking, by(other, KEYS[algorithm], algorithm))  # another kind of key
                await refused(checking, by(algorithm, key, other))
        assert given.asked == 1


async def test_a_token_without_a_key_id_is_refused_and_nobody_is_asked() -> None:
    with provider(*ALL) as given:
        await refused(policy(given), token(KEYS["EdDSA"], "EdDSA"))
        assert given.asked == 0


async def test_addresses_and_keys_in_a_tokens_header_are_not_looked_at() -> None:
    own = jwk(OTHER, "EdDSA", kid="1")
    with provider(*ALL) as given, provider(own) as evil:
        hints: list[dict[str, Any]] = [
            {"jku": evil.url},
            {"x5u": evil.url},
            {"jwk": own},
            {"jku": evil.url, "jwk": own, "x5c": ["AA=="]},
        ]
        for headers in hints:
            await refused(policy(given), by("1", OTHER, **headers))
            await refused(policy(given), by("EdDSA", OTHER, **headers))
            assert (await policy(given).verify(by("EdDSA", **headers))).subject == "alice"
        assert evil.asked == 0


async def test_a_shared_secret_is_never_a_key_of_a_set() -> None:
    oct_key = {"kty": "oct", "kid": "1", "k": "YSBzZWNyZXQgb2YgYXQgbGVhc3QgdGhpcnR5LXR3byBieXRlcw", "alg": "HS256"}
    with provider(oct_key, *ALL) as given:
        await refused(policy(given), token(SECRET, headers={"kid": "1"}))
        await refused(policy(given), token(SECRET, headers={"kid": "EdDSA"}))


async def test_a_key_counts_only_for_its_own_algorithm_and_use() -> None:
    rsa_key = KEYS["RS256"]
    keys = [
        jwk(rsa_key, "RS256", kid="for-256", alg="RS256"),
        jwk(rsa_key, "RS256", kid="for-ps", alg="PS256"),
        jwk(rsa_key, "RS256", kid="for-encryption", use="enc"),
        jwk(rsa_key, "RS256", kid="for-wrapping", key_ops=["wrapKey"]),
        jwk(rsa_key, "RS256", kid="for-oaep", alg="RSA-OAEP"),
        jwk(rsa_key, "RS256", kid="for-checking", key_ops=["verify"]),
        jwk(rsa_key, "RS256", kid="for-all"),
    ]
    with provider(*keys) as given:
        checking = policy(given, algorithms=["RS256", "PS256"])
        for algorithm, takers in {
            "RS256": {"for-256", "for-checking", "for-all"},
            "PS256": {"for-ps", "for-checking", "for-all"},
        }.items():
            for each in keys:
                presented = by(each["kid"], rsa_key, algorithm)
                if each["kid"] in takers:
                    assert (await checking.verify(presented)).subject == "alice"
                else:
                    await refused(checking, presented)


async def test_algorithms_widen_and_narrow() -> None:
    p384 = ec.generate_private_key(ec.SECP384R1())
    with provider(jwk(p384, "ES384", kid="384"), *ALL) as given:
        await refused(policy(given), by("384", p384, "ES384"))
        assert (await policy(given, algorithms=["ES384"]).verify(by("384", p384, "ES384"))).subject == "alice"
        await refused(policy(given, algorithms=["ES384"]), by("EdDSA"))


# ---------------------------------------------------------------- rotation
async def test_a_new_key_is_fetched_and_one_that_was_taken_away_ends() -> None:
    clock = Clock()
    with provider(jwk(KEYS["EdDSA"], "EdDSA", kid="old")) as given:
        checking = policy(given, clock)
        assert (await checking.verify(by("old"))).subject == "alice"
        given.publish(jwk(KEYS["EdDSA"], "EdDSA", kid="old"), jwk(OTHER, "EdDSA", kid="new"))
        clock.now += 10
        assert (await checking.verify(by("new", OTHER))).subject == "alice"
        assert (await checking.verify(by("old"))).subject == "alice"
        assert given.asked == 2
        given.publish(jwk(OTHER, "EdDSA", kid="new"))
        clock.now += 299
        assert (await checking.verify(by("old"))).subject == "alice"
        clock.now += 1
        await refused(checking, by("old"))
        assert (await checking.verify(by("new", OTHER))).subject == "alice"
        assert given.asked == 3


async def test_another_key_under_the_same_id_counts_once_the_set_is_old() -> None:
    clock = Clock()
    with provider(jwk(KEYS["EdDSA"], "EdDSA", kid="1")) as given:
        checking = policy(given, clock)
        await checking.verify(by("1"))
        given.publish(jwk(OTHER, "EdDSA", kid="1"))
        clock.now += 300
        await refused(checking, by("1"))
        assert (await checking.verify(by("1", OTHER))).subject == "alice"


async def test_unknown_key_ids_make_one_fetch_per_cooldown() -> None:
    clock = Clock()
    with provider(*ALL) as given:
        checking = policy(given, clock)
        for fetches in (1, 2, 3):
            for number in range(50):
                await refused(checking, by(f"made-up-{fetches}-{number}"))
            assert given.asked == fetches
            clock.now += 10


async def test_a_thousand_logins_at_once_make_one_fetch() -> None:
    with provider(*ALL) as given:
        given.may_answer.clear()
        checking = policy(given)
        presented = [by("EdDSA"), by("made-up")]
        logins = [asyncio.create_task(checking.verify(presented[index % 2])) for index in range(1_000)]
        while not given.asked:
            await asyncio.sleep(0.001)
        logins[0].cancel()  # a client that leaves does not cancel another's fetch
        given.may_answer.set()
        done = await asyncio.gather(*logins, return_exceptions=True)
        assert given.asked == 1
        assert isinstance(done[0], asyncio.CancelledError)
        assert all(not isinstance(each, BaseException) for each in done[2::2])
        assert all(isinstance(each, UnauthorizedError) for each in done[1::2])


# ---------------------------------------------------------------- away and hostile
async def test_while_the_address_is_away_known_keys_go_on() -> None:
    clock = Clock()
    with provider(*ALL) as given:
        checking = policy(given, clock)
        await checking.verify(by("EdDSA"))
        given.status = 500
        clock.now += 400
        assert (await checking.verify(by("EdDSA"))).subject == "alice"
        with pytest.raises(KeysUnavailableError) as raised:
            await checking.verify(by("new", OTHER))
        assert (raised.value.code, raised.value.http_status, raised.value.retryable) == (5032, 503, True)
        assert raised.value.retry_after == 10
        assert given.asked == 2  # the second within the cooldown causes no fetch
        clock.now += 86_400
        with pytest.raises(KeysUnavailableError):  # no fetch has confirmed the key for a day
            await checking.verify(by("EdDSA"))
        given.status = 200
        clock.now += 10
        assert (await checking.verify(by("EdDSA"))).subject == "alice"


async def test_nobody_listens() -> None:
    with provider(*ALL) as given:
        pass
    with pytest.raises(KeysUnavailableError):
        await policy(given).verify(by("EdDSA"))


KEY = jwk(KEYS["EdDSA"], "EdDSA", kid="EdDSA")
NONSENSE: dict[str, Callable[[Provider], object]] = {
    "nothing": lambda given: setattr(given, "answer", b""),
    "a page": lambda given: setattr(given, "answer", b"<html>log in first</html>"),
    "a list": lambda given: setattr(given, "answer", json.dumps([KEY]).encode()),
    "null": lambda given: setattr(given, "answer", b"null"),
    "no keys": lambda given: setattr(given, "answer", b"{}"),
    "keys are an object": lambda given: setattr(given, "answer", json.dumps({"keys": KEY}).encode()),
    "not UTF-8": lambda given: setattr(given, "answer", b"\xff\xfe\x00"),
    "deep": lambda given: setattr(given, "answer", b"[" * 100_000),
    "huge": lambda given: setattr(given, "answer", json.dumps({"keys": [KEY], "x": "y" * 300_000}).encode()),
    "a huge number": lambda given: setattr(given, "answer", b'{"keys": [], "x": ' + b"9" * 10_000 + b"}"),
    "404": lambda given: setattr(given, "status", 404),
    "a redirect": lambda given: (setattr(given, "status", 302), setattr(given, "headers", {"Location": given.url})),
    "a redirect to a file": lambda given: (
        setattr(given, "status", 302),
        setattr(given, "headers", {"Location": "file:///etc/passwd"}),
    ),
    "cut off": lambda given: setattr(given, "headers", {"Transfer-Encoding": "chunked"}),
}


@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE.keys())
async def test_nonsense_in_place_of_a_set_changes_nothing(
    answer: Callable[[Provider], object], caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    with provider(KEY) as given:
        known = policy(given, clock)
        await known.verify(by("EdDSA"))
        answer(given)
        clock.now += 300
        assert (await known.verify(by("EdDSA"))).subject == "alice"
        with pytest.raises(KeysUnavailableError):
            await policy(given).verify(by("EdDSA"))
        assert "jwks_url cannot be fetched" in caplog.text
        assert not any(record.exc_info for record in caplog.records)
        assert given.asked == 3


HOSTILE_KEYS: list[Any] = [
    None,
    7,
    "key",
    [],
    {},
    {"kid": "EdDSA"},
    {"kid": "EdDSA", "kty": "OKP"},
    {"kid": "EdDSA", "kty": ["OKP"]},
    {"kid": "EdDSA", "kty": "OKP", "crv": "Ed25519"},
    {"kid": "EdDSA", "kty": "OKP", "crv": "Ed25519", "x": 7},
    {"kid": "EdDSA", "kty": "OKP", "crv": "Ed25519", "x": "AA"},
    {"kid": "EdDSA", "kty": "OKP", "crv": "X25519", "x": KEY["x"]},
    {"kid": "EdDSA", "kty": "OKP", "crv": {"a": 1}, "x": KEY["x"]},
    {"kid": "EdDSA", "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
    {"kid": "EdDSA", "kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "A" * 43},
    {"kid": "EdDSA", "kty": "RSA", "n": "AQAB", "e": "AQAB"},
    {"kid": "EdDSA", "kty": "RSA", "n": "", "e": ""},
    {"kid": "EdDSA", "kty": "RSA", "n": None, "e": None},
    {"kid": "EdDSA", "kty": "RSA", "n": "A" * 50_000, "e": "AQAB"},
    {"kid": "EdDSA", "kty": "made-up"},
    {"kid": "EdDSA", "kty": "oct", "k": "YSBzZWNyZXQgb2YgYXQgbGVhc3QgdGhpcnR5LXR3byBieXRlcw"},
    {**KEY, "kid": None},
    {**KEY, "kid": 7},
    {**KEY, "kid": ["EdDSA"]},
    {**KEY, "use": ["sig"]},
    {**KEY, "alg": "HS256"},
    {**KEY, "alg": "none"},
    {**KEY, "key_ops": "verify"},
    {**KEY, "d": "AA"},
    jwk(rsa.generate_private_key(65537, 1024), "RS256", kid="EdDSA"),
]


async def test_keys_that_are_no_use_are_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    for hostile in HOSTILE_KEYS:
        with provider(hostile) as given:
            await refused(policy(given), by("EdDSA"))
    assert "no key that can be used" in caplog.text
    with provider(*HOSTILE_KEYS, {**KEY, "kid": "good"}) as given:
        assert (await policy(given).verify(by("good"))).subject == "alice"
    assert not any(record.exc_info for record in caplog.records)


async def test_an_empty_set_ends_all_keys() -> None:
    clock = Clock()
    with provider(KEY) as given:
        checking = policy(given, clock)
        await checking.verify(by("EdDSA"))
        given.publish()
        clock.now += 300
        await refused(checking, by("EdDSA"))


# ---------------------------------------------------------------- over the wire
async def test_with_tls_the_providers_certificate_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    with provider(KEY, tls=tls) as given:
        with pytest.raises(KeysUnavailableError):
            await policy(given).verify(by("EdDSA"))
        authority.cert_pem.write_to_path(tmp_path / "authority.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        assert (await policy(given).verify(by("EdDSA"))).subject == "alice"


@pytest.mark.row("HIVE-76")
async def test_logins_on_a_server_over_a_rotation_and_an_outage() -> None:
    with provider(KEY) as given, site(auth={"jwks_url": given.url}) as running:
        running.hub.open("exec-1", owner="alice")
        async with httpx2.AsyncClient(base_url=running.url) as client:

            async def status(presented: str) -> tuple[int, int | None]:
                answer = await client.get("/executions/exec-1", headers={"Authorization": f"Bearer {presented}"})
                return answer.status_code, answer.json().get("error", {}).get("code")

            given.status = 503
            assert await status(by("EdDSA")) == (503, 5032)
        async with raw_client(running, login=False) as socket:
            await socket.send("40" + json.dumps({"token": by("EdDSA")}))
            data = json.loads((await socket.receive())[2:])["data"]
            assert (data["code"], data["name"], data["retryable"]) == (5032, "keys_unavailable", True)
    with provider(KEY) as given, site(auth={"jwks_url": given.url}) as running:
        running.hub.open("exec-1", owner="alice")
        async with raw_client(running, auth={"token": by("EdDSA")}) as socket:
            assert (await socket.ask("subscribe_execution", {"execution_id": "exec-1"}))["ok"]
            given.status = 503
            assert (await socket.ask("authenticate", {"token": by("EdDSA")}))["ok"]
