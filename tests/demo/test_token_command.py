"""`python -m lg_streaming token`: what it prints opens a server that has the key."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from typer.testing import CliRunner

from lg_streaming.cli.main import app
from lg_streaming.gateway.auth.policy import Policy
from lg_streaming.settings import AuthSettings
from tests.gateway.site import site
from tests.gateway.tokens import KEYS, SECRET, pem, private_pem

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str, secret: str | None = SECRET, **env: str) -> tuple[int, str, str]:
    variables = {**env, **({} if secret is None else {"LG_STREAMING_AUTH__SECRET": secret})}
    done = CliRunner().invoke(app, ["token", *arguments], env={"COLUMNS": "200", **variables})
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.exit_code, done.stdout, done.stderr


def made(*arguments: str, **env: Any) -> str:
    code, out, err = run("--subject", "alice", *arguments, **env)
    assert (code, err) == (0, "")
    return out.strip()


def said(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def failure(*arguments: str, **env: Any) -> str:
    code, out, err = run(*arguments, **env)
    assert (code, out) == (1, "")
    assert "Traceback" not in err
    assert SECRET not in err
    return err


def in_a_shell() -> str:
    command = [sys.executable, "-m", "lg_streaming", "token", "--subject", "alice", "--expires-in", "1h"]
    env = {**os.environ, "LG_STREAMING_AUTH__SECRET": SECRET}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return done.stdout.rstrip("\n")


@pytest.mark.row("HIVE-06")
async def test_what_it_prints_opens_a_server() -> None:
    token = await asyncio.to_thread(in_a_shell)
    assert token.count(".") == 2
    assert said(token)["exp"] - said(token)["iat"] == 3_600
    with site(auth={"secret": SECRET}) as running:
        running.hub.open("exec-1", owner="alice")
        async with httpx2.AsyncClient(base_url=running.url) as client:
            assert (await client.get("/executions/exec-1")).status_code == 401
            answer = await client.get("/executions/exec-1", headers={"Authorization": f"Bearer {token}"})
            assert answer.json()["owner"] == "alice"


async def test_it_grants_what_is_asked_for() -> None:
    policy = Policy(AuthSettings.model_validate({"secret": SECRET}))
    alice = await policy.verify(made("--execution", "acme/*", "--execution", "room:*"))
    assert await policy.allows(alice, "read", "acme/1", "bob")
    assert await policy.allows(alice, "read", "room:lobby", None)
    assert not await policy.allows(alice, "control", "acme/1", "bob")
    both = await policy.verify(made("--execution", "acme/*", "--action", "read", "--action", "control"))
    assert await policy.allows(both, "control", "acme/1", "bob")
    none = await policy.verify(made())
    assert (none.grants, "lg_streaming" in none.claims) == ((), False)


@pytest.mark.parametrize("algorithm", KEYS)
async def test_a_private_key_in_a_file(algorithm: str, tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_text(private_pem(KEYS[algorithm]))
    policy = Policy(AuthSettings(public_key=pem(KEYS[algorithm])))
    for arguments in ((), ("--algorithm", algorithm)):
        # The secret of the environment does not count then.
        token = await asyncio.to_thread(made, "--private-key", str(file), "--kid", "2026-11", *arguments)
        assert jwt.get_unverified_header(token) == {"alg": algorithm, "kid": "2026-11", "typ": "JWT"}
        assert (await policy.verify(token)).subject == "alice"


def test_longer_hashes() -> None:
    assert jwt.decode(made("--algorithm", "HS512", secret="s" * 64), "s" * 64, ["HS512"])["sub"] == "alice"


async def test_audience_issuer_and_further_claims() -> None:
    settings = {"secret": SECRET, "audience": "streams", "issuer": "https://login.example.com"}
    policy = Policy(AuthSettings.model_validate(settings))
    further = ("--claim", 'tenant="acme"', "--claim", 'roles=["a", {"b": 1}]', "--claim", "level=null")
    given = made("--audience", "streams", "--issuer", "https://login.example.com", *further)
    found = made(LG_STREAMING_AUTH__AUDIENCE="streams", LG_STREAMING_AUTH__ISSUER="https://login.example.com")
    claims = (await policy.verify(given)).claims
    assert (claims["tenant"], claims["roles"], claims["level"]) == ("acme", ["a", {"b": 1}], None)
    assert (await policy.verify(found)).subject == "alice"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("3600", 3_600), ("30m", 1_800), ("1h", 3_600), ("90s", 90), ("7d", 604_800), ("3650d", 315_360_000)],
)
def test_durations(text: str, seconds: int) -> None:
    claims = said(made("--expires-in", text))
    assert claims["exp"] - claims["iat"] == seconds


def test_every_token_has_an_id_of_its_own() -> None:
    assert said(made())["jti"] != said(made())["jti"]


@pytest.mark.parametrize("text", ["", "0", "-5", "1.5h", "1w", "h", "1h30m", "٣", "3651d", "9" * 40, "tomorrow"])
def test_no_durations(text: str) -> None:
    assert "such as 30m" in failure("--subject", "alice", f"--expires-in={text}")


@pytest.mark.parametrize(
    ("arguments", "env", "why"),
    [
        ([], {"secret": None}, "LG_STREAMING_AUTH__SECRET"),
        ([], {"secret": ""}, "LG_STREAMING_AUTH__SECRET"),
        (["--secret", "short"], {}, "shorter than 32 bytes"),
        ([], {"secret": "short"}, "shorter than 32 bytes"),
        (["--algorithm", "HS512"], {}, "64 bytes"),
        (["--algorithm", "RS256"], {}, "needs --private-key"),
        (["--algorithm", "none"], {}, "HS256, HS384, HS512"),
        (["--secret", "-----BEGIN PUBLIC KEY-----\n" + "x" * 32], {}, "PEM key"),
        (["--secret", "x" * 32, "--private-key", "key.pem"], {}, "not both"),
        (["--private-key", "/nowhere/key.pem"], {}, "No such file"),
        (["--private-key", "."], {}, "directory"),
        (["--action", "read"], {}, "--execution too"),
        (["--execution", "**", "--action", "write"], {}, "'write'"),
        (["--claim", "tenant"], {}, "name=JSON"),
        (["--claim", "=1"], {}, "name=JSON"),
        (["--claim", "tenant=acme"], {}, "tenant='\"acme\"'"),
        (["--claim", "x=NaN"], {}, "not JSON"),
        (["--claim", "x=1", "--claim", "x=2"], {}, "twice"),
        (["--claim", 'sub="root"'], {}, "separate option"),
        (["--claim", "lg_streaming=[]"], {}, "separate option"),
        (["--subject", ""], {}, "--subject is empty"),
    ],
)
def test_what_cannot_be_made_is_told_in_one_line(arguments: list[str], env: dict[str, Any], why: str) -> None:
    told = failure("--subject", "alice", *arguments, **env)
    assert why in told
    assert told.startswith("Error: ")
    assert told.count("\n") == 1 + sum("\n" in each for each in arguments if each in told)


def test_files_that_hold_no_usable_key(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    ed_key = KEYS["EdDSA"]
    encrypted = ed_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"pass")).decode()
    for content, why in {
        "": "not a private key",
        "\0\0": "not a private key",
        pem(ed_key): "not a private key",
        encrypted: "encrypted",
        private_pem(dsa.generate_private_key(1024)): "no algorithm",
        private_pem(rsa.generate_private_key(65537, 1024)): "no algorithm",
        private_pem(ec.generate_private_key(ec.SECP256K1())): "no algorithm",
    }.items():
        file.write_text(content)
        assert why in failure("--subject", "alice", "--private-key", str(file))
    file.write_text(private_pem(ed25519.Ed25519PrivateKey.generate()))
    assert "goes with EdDSA" in failure("--subject", "alice", "--private-key", str(file), "--algorithm", "RS256")


def test_the_help_says_what_it_is_for() -> None:
    told = run("--help")[1]
    for part in ("For development", "--subject", "--expires-in", "LG_STREAMING_AUTH__SECRET"):
        assert part in told


def test_a_subject_has_to_be_given() -> None:
    code, out, err = run()
    assert (code, out) == (2, "")
    assert "--subject" in err
    assert json.dumps(SECRET) not in err
