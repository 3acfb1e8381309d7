"""Tokens forged in turn: each is refused, all alike, and none ends in a traceback."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from lg_streaming.errors import TokenExpiredError, UnauthorizedError
from lg_streaming.gateway.auth.policy import Policy
from lg_streaming.settings import AuthSettings
from tests.gateway.site import raw_client, site
from tests.gateway.tokens import (
    KEYS,
    LIFETIME,
    NOW,
    SECRET,
    base64url,
    claims,
    jwk,
    part,
    pem,
    secret_policy,
    signed,
    token,
    unsigned,
)

OTHERS: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
HS256 = {"alg": "HS256", "typ": "JWT"}
HEADER, BODY, SIGNATURE = token().split(".")


def hs256(header: object = HS256, body: object = None) -> str:
    """Return a token of any content, signed with the right secret."""
    return signed(SECRET, "HS256", header, claims() if body is None else body)


def saying(**more: Any) -> str:
    return hs256(body=claims(**more))


def said(text: str) -> str:
    return hs256(body=text)


def flipped(text: str, at: int) -> str:
    """With the lowest bit of one character's value changed."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    at %= len(text)
    return text[:at] + letters[letters.index(text[at]) ^ 1] + text[at + 1 :]


EXP = NOW + LIFETIME

BROKEN = {
    "nothing": "",
    "spaces": "   ",
    "a word": "abc",
    "two parts": f"{HEADER}.{BODY}",
    "two parts and a dot": f"{HEADER}.{BODY}.",
    "four parts": f"{token()}.x",
    "five parts, as if encrypted": f"{token()}.x.y",
    "dots": "..",
    "many dots": "." * 16_000,
    "no header": f".{BODY}.{SIGNATURE}",
    "no body": f"{HEADER}..{SIGNATURE}",
    "not base64": "x!.y!.z!",
    "other base64 letters": hs256(body=claims(name="???>>>~~~")).replace("_", "/").replace("-", "+"),
    "padding": f"{HEADER}.{BODY}.{SIGNATURE}=",
    "a space inside": f"{HEADER}. {BODY}.{SIGNATURE}",
    "a line end": f"{token()}\n",
    "a NUL": f"{token()}\0",
    "unicode": "тест.тест.тест",
    "a lone surrogate": "\ud800.\ud800.\ud800",
    "a digit of another script": f"{HEADER}.{BODY}.{SIGNATURE[:-1]}٣",
    "too long": "a" * 20_000,
    "too long, and signed": saying(filler="x" * 16_384),
    "deep header": f"{base64url(b'[' * 8_000)}.e30.x",
    "deep body": f"{HEADER}.{base64url(b'[' * 8_000)}.{SIGNATURE}",
    "deep body, and signed": said('{"a":' * 1_900),
    "header is no JSON": hs256(header="nonsense"),
    "header is a list": hs256(header=[1]),
    "header is null": hs256(header="null"),
    "header is not UTF-8": f"{base64url(bytes([255, 254]))}.{BODY}.{SIGNATURE}",
    "body is no JSON": said("nonsense"),
    "body is a list": said("[]"),
    "body is null": said("null"),
    "body is text": said('"alice"'),
    "body has rubbish after it": said(json.dumps(claims()) + "}"),
    "a number of five thousand digits": said(f'{{"sub": "alice", "exp": {"9" * 5_000}}}'),
}

ALGORITHMS = {
    "none": unsigned({"alg": "none", "typ": "JWT"}, claims()),
    "none with a signature": unsigned({"alg": "none"}, claims(), SIGNATURE),
    "None": unsigned({"alg": "None"}, claims(), "x"),
    "NONE": unsigned({"alg": "NONE"}, claims(), SIGNATURE),
    "nOnE": unsigned({"alg": "nOnE"}, claims(), SIGNATURE),
    "no algorithm": hs256(header={"typ": "JWT"}),
    "algorithm is empty": hs256(header={"alg": ""}),
    "algorithm is null": hs256(header={"alg": None}),
    "algorithm is a list": hs256(header={"alg": ["HS256"]}),
    "algorithm is a number": hs256(header={"alg": 256}),
    "algorithm in small letters": hs256(header={"alg": "hs256"}),
    "algorithm with a space": hs256(header={"alg": "HS256 "}),
    "a made-up algorithm": hs256(header={"alg": "XX999"}),
    "HS512 is not accepted": jwt.encode(claims(), SECRET * 2, "HS512"),
    "the algorithm comes twice": hs256(header='{"alg": "HS256", "alg": "HS256"}'),
    "the algorithm comes twice, none first": hs256(header='{"alg": "none", "alg": "HS256"}'),
    "a critical header": hs256(header={**HS256, "crit": ["x"], "x": 1}),
    "critical, and not there": hs256(header={**HS256, "crit": ["exp"]}),
    "critical is empty": hs256(header={**HS256, "crit": []}),
    "critical is no list": hs256(header={**HS256, "crit": "x"}),
    "critical is null": hs256(header={**HS256, "crit": None}),
    "critical, and known to pyjwt": hs256(header={**HS256, "crit": ["b64"], "b64": True}),
    "body not in base64": hs256(header={**HS256, "b64": False, "crit": ["b64"]}),
    "key id is a number": hs256(header={**HS256, "kid": 1}),
    "key id is an object": hs256(header={**HS256, "kid": {"a": 1}}),
}

SIGNATURES = {
    "another secret": token("another secret of thirty-two bytes!!"),
    "an empty secret": signed("x", "HS256", HS256, claims()),
    "signature of another token": f"{HEADER}.{BODY}.{token(sub='bob').rpartition('.')[2]}",
    "parts swapped": f"{BODY}.{HEADER}.{SIGNATURE}",
    "body of another token": f"{HEADER}.{part(claims(sub='root'))}.{SIGNATURE}",
    "signature cut": token()[:-4],
    "signature longer": token() + "AAAA",
    "signature twice": token() + SIGNATURE,
    **{f"a bit of the signature flipped at {at}": f"{HEADER}.{BODY}.{flipped(SIGNATURE, at)}" for at in (0, 7, -2, -1)},
    **{f"a bit of the body flipped at {at}": f"{HEADER}.{flipped(BODY, at)}.{SIGNATURE}" for at in (0, 9, 30, -1)},
    **{f"a bit of the header flipped at {at}": f"{flipped(HEADER, at)}.{BODY}.{SIGNATURE}" for at in (0, 9, -1)},
}

CLAIMS = {
    "no exp": saying(exp=None),
    "exp is null": said('{"sub": "alice", "exp": null}'),
    "exp is text": saying(exp=str(int(EXP))),
    "exp is a word": saying(exp="tomorrow"),
    "exp is a list": saying(exp=[EXP]),
    "exp is true": saying(exp=True),
    "exp is NaN": saying(exp=float("nan")),
    "exp is infinite": saying(exp=float("inf")),
    "exp is 1e400": said('{"sub": "alice", "exp": 1e400}'),
    "exp is huge": saying(exp=10**300),
    "exp is in milliseconds": saying(exp=int(EXP * 1000)),
    "exp is negative": saying(exp=-1),
    "exp comes twice": said(f'{{"sub": "alice", "exp": 1, "exp": {EXP}}}'),
    "no sub": saying(sub=None),
    "sub is null": said(f'{{"sub": null, "exp": {EXP}}}'),
    "sub is empty": saying(sub=""),
    "sub is a fraction": saying(sub=7.5),
    "sub is a whole number with a point": said(f'{{"sub": 7.0, "exp": {EXP}}}'),
    "sub is true": saying(sub=True),
    "sub has five thousand digits": said(f'{{"sub": {"9" * 4_000}{"9" * 1_000}, "exp": {EXP}}}'),
    "sub is a list": saying(sub=["alice"]),
    "sub is an object": saying(sub={"id": "alice"}),
    "sub comes twice": said(f'{{"sub": "alice", "sub": "bob", "exp": {EXP}}}'),
    "a claim inside comes twice": said(f'{{"sub": "alice", "exp": {EXP}, "x": {{"a": 1, "a": 2}}}}'),
    "not yet": saying(nbf=NOW + LIFETIME),
    "nbf is text": saying(nbf="0"),
    "nbf is NaN": saying(nbf=float("nan")),
    "nbf is null": said(f'{{"sub": "alice", "exp": {EXP}, "nbf": null}}'),
    "issued in the future": saying(iat=NOW + LIFETIME),
    "iat is nonsense": saying(iat="yesterday"),
    "iat is an object": saying(iat={}),
    "iat is negative": saying(iat=-5),
    "jti is a number": saying(jti=5),
    "NaN in another claim": saying(other=float("nan")),
}

FORGED = {**BROKEN, **ALGORITHMS, **SIGNATURES, **CLAIMS}


async def refused(policy: Policy, forged: str) -> UnauthorizedError:
    with pytest.raises(UnauthorizedError) as raised:
        await policy.verify(forged)
    return raised.value


async def test_the_tokens_the_forged_ones_are_made_of_are_good() -> None:
    for good in (token(), hs256(), saying(nbf=NOW - 1, iat=NOW - 1, jti="1"), said(json.dumps(claims()))):
        assert (await secret_policy().verify(good)).subject == "alice"


@pytest.mark.row("HIVE-D19")
@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED.keys())
async def test_a_forged_token_is_refused_and_not_told_why(forged: str) -> None:
    error = await refused(secret_policy(), forged)
    assert (error.code, error.message) == (4010, "the token is not valid")


def test_there_are_enough_forged_tokens() -> None:
    assert len(FORGED) >= 60


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        ({"exp": NOW - 4.9}, True),
        ({"exp": NOW - 5}, False),
        ({"exp": NOW - 60}, False),
        ({"exp": 0}, False),
    ],
)
async def test_an_expired_token_is_told_apart(changes: dict[str, Any], good: bool) -> None:
    if good:
        assert (await secret_policy().verify(saying(**changes))).subject == "alice"
    else:
        error = await refused(secret_policy(), saying(**changes))
        assert isinstance(error, TokenExpiredError)
        assert error.code == 4011


async def test_an_expired_token_that_somebody_else_signed_is_not_told_apart() -> None:
    error = await refused(secret_policy(), signed("x" * 32, "HS256", HS256, claims(exp=1)))
    assert error.code == 4010


AUDIENCE = {
    "another audience": claims(aud="other", iss="login"),
    "no audience": claims(iss="login"),
    "audience is empty": claims(aud="", iss="login"),
    "audiences without ours": claims(aud=["a", "b"], iss="login"),
    "no audiences": claims(aud=[], iss="login"),
    "audience is a number": claims(aud=1, iss="login"),
    "audiences are numbers": claims(aud=[1, "streams"], iss="login"),
    "audience is an object": claims(aud={"streams": 1}, iss="login"),
    "audience is part of another": claims(aud="streams2", iss="login"),
    "another issuer": claims(aud="streams", iss="evil"),
    "no issuer": claims(aud="streams"),
    "issuers": claims(aud="streams", iss=["login"]),
    "issuer is a number": claims(aud="streams", iss=1),
    "issuer with a slash": claims(aud="streams", iss="login/"),
    "issuer in capitals": claims(aud="streams", iss="LOGIN"),
    "issuer is a part": claims(aud="streams", iss="log"),
    "issuer is one letter": claims(aud="streams", iss="g"),
    "issuer is empty": claims(aud="streams", iss=""),
    "issuer with a space": claims(aud="streams", iss="login "),
    "issuer is an object": claims(aud="streams", iss={"login": 1}),
}


@pytest.mark.parametrize("body", AUDIENCE.values(), ids=AUDIENCE.keys())
async def test_a_token_for_or_from_somebody_else_is_refused(body: dict[str, Any]) -> None:
    policy = secret_policy(audience="streams", issuer="login")
    assert (await refused(policy, hs256(body=body))).code == 4010
    assert (await policy.verify(hs256(body=claims(aud=["x", "streams"], iss="login")))).subject == "alice"


# ---------------------------------------------------------------- with a public key
def as_secret(public: str, algorithm: str) -> str:
    """Signed with the text of the public key, as a server that trusts the token's `alg` would check it."""
    signing = f"{part({'alg': algorithm})}.{part(claims())}"
    digest = hmac.new(public.encode(), signing.encode(), hashlib.sha256).digest()
    return f"{signing}.{base64url(digest)}"


def with_key_inside(algorithm: str) -> str:
    other = OTHERS[algorithm]
    chain = [base64.b64encode(pem(other).encode()).decode()]
    inside = {"jwk": jwk(other, algorithm), "x5c": chain, "kid": "1"}
    return token(other, algorithm, headers=inside)


FORGERIES: dict[str, Callable[[str], str]] = {
    "none": lambda _: unsigned({"alg": "none"}, claims()),
    "the public key as a secret": lambda algorithm: as_secret(pem(KEYS[algorithm]), "HS256"),
    "the public key as a secret, under its own name": lambda algorithm: as_secret(pem(KEYS[algorithm]), algorithm),
    "another key of the kind": lambda algorithm: token(OTHERS[algorithm], algorithm),
    "a key in the header": with_key_inside,
    "a key elsewhere": lambda algorithm: token(
        OTHERS[algorithm], algorithm, headers={"jku": "http://127.0.0.1:9/", "x5u": "http://127.0.0.1:9/"}
    ),
    "no signature": lambda algorithm: token(KEYS[algorithm], algorithm).rpartition(".")[0] + ".",
    "a signature of zeros": lambda algorithm: (
        token(KEYS[algorithm], algorithm).rpartition(".")[0] + "." + base64url(bytes(64))
    ),
    "the signature flipped": lambda algorithm: flipped(token(KEYS[algorithm], algorithm), -5),
    "another algorithm's name": lambda algorithm: signed(
        KEYS[algorithm], algorithm, {"alg": "RS512" if algorithm == "RS256" else "RS256"}, claims()
    ),
}


@pytest.mark.parametrize("algorithm", KEYS)
@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES.keys())
async def test_a_public_key_is_not_to_be_fooled(forge: Callable[[str], str], algorithm: str) -> None:
    policy = Policy(AuthSettings(public_key=pem(KEYS[algorithm])), clock=lambda: NOW)
    assert (await refused(policy, forge(algorithm))).code == 4010
    assert (await policy.verify(token(KEYS[algorithm], algorithm))).subject == "alice"


# ---------------------------------------------------------------- at the door
async def test_no_forged_token_opens_a_stream_or_leaves_a_traceback() -> None:
    """Tokens that a header can contain; `no_traceback_in_the_log` checks the server's log."""
    with site(auth={"secret": SECRET}, limits={"failed_logins_per_address": None}) as running:
        running.hub.open("exec-1", owner="alice")
        async with httpx2.AsyncClient(base_url=running.url) as client:
            for name, forged in FORGED.items():
                if not forged.strip() or not forged.isascii() or not forged.isprintable():
                    continue
                answer = await client.get("/executions/exec-1", headers={"Authorization": f"Bearer {forged}"})
                assert answer.status_code in {401, 431}, name
                if answer.status_code == 401:
                    assert answer.json()["error"]["code"] == 4010, name
            good = await client.get("/executions/exec-1", headers={"Authorization": f"Bearer {token()}"})
            assert good.status_code == 200


@pytest.mark.parametrize(
    "name", ["none", "NaN in another claim", "unicode", "deep header", "sub is a list", "many dots"]
)
async def test_no_forged_token_opens_a_socket(name: str) -> None:
    with site(auth={"secret": SECRET}) as running:
        async with raw_client(running, login=False) as client:
            await client.send("40" + json.dumps({"token": FORGED[name]}))
            answer = json.loads((await client.receive())[2:])
            assert answer["data"]["code"] == 4010
            assert (await client.closed())[0] in {1000, 4010}
        assert running.gateway.connections == 0
