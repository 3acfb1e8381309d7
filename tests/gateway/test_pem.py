"""Public keys as they come out of environment variables, secret stores and files of other systems."""

import base64
from collections.abc import Callable

import pytest
from fastapi import FastAPI

from lg_streaming import StreamingModule
from lg_streaming.errors import StreamingConfigError
from lg_streaming.gateway.auth.policy import Policy
from lg_streaming.settings import AuthSettings, StreamingSettings
from tests.gateway.tokens import KEYS, pem, private_pem, token

SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": lambda text: text,
    "literal \\n": lambda text: text.replace("\n", "\\n"),
    "literal \\r\\n": lambda text: text.replace("\n", "\\r\\n"),
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "CR": lambda text: text.replace("\n", "\r"),
    "no last line break": str.strip,
    "double quotes": lambda text: f'"{text}"',
    "single quotes and literal \\n": lambda text: "'" + text.replace("\n", "\\n") + "'",
    "spaces for line breaks": lambda text: text.replace("\n", " "),
    "no line breaks": lambda text: text.replace("\n", ""),
    "indented, as in YAML": lambda text: text.replace("\n", "\n    "),
    "a byte order mark": lambda text: "\ufeff" + text,
    "blank lines around": lambda text: f"\n\n{text}\n\n",
    "text before it": lambda text: f"Bag Attributes\n    friendlyName: x\n{text}",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_key_is_read_however_it_came(spelling: str, algorithm: str) -> None:
    key = SPELLINGS[spelling](pem(KEYS[algorithm]))
    policy = Policy(AuthSettings(public_key=key))
    assert (await policy.verify(token(KEYS[algorithm], algorithm))).subject == "alice"


async def test_a_key_in_an_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LG_STREAMING_AUTH__PUBLIC_KEY", pem(KEYS["RS256"]).replace("\n", "\\n"))
    assert (await Policy(StreamingSettings().auth).verify(token(KEYS["RS256"], "RS256"))).subject == "alice"


GOOD = pem(KEYS["RS256"])
BROKEN = {
    "cut off": (GOOD[: len(GOOD) // 2], "cut off"),
    "its middle is missing": (GOOD[:100] + GOOD[200:], "copy it again"),
    "another letter": (GOOD.replace(GOOD[60:64], "!!!!"), "copy it again"),
    "two labels": (GOOD.replace("END PUBLIC", "END RSA PUBLIC"), "cut off"),
    "a path": ("/etc/keys/public.pem", "not a path"),
    "PEM in base64": (base64.b64encode(GOOD.encode()).decode(), "no -----BEGIN"),
    "only base64": ("".join(GOOD.splitlines()[1:-1]), "no -----BEGIN"),
    "empty": ("", "no -----BEGIN"),
    "a private key": (private_pem(KEYS["RS256"]), "private key"),
    "a private key with literal \\n": (private_pem(KEYS["EdDSA"]).replace("\n", "\\n"), "private key"),
    "a certificate": ("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", "certificate"),
    "empty inside": ("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n", "copy it again"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_key_is_found_at_the_start_and_not_shown(name: str) -> None:
    key, words = BROKEN[name]
    with pytest.raises(StreamingConfigError, match=r"auth\.public_key") as refused:
        StreamingModule({"auth": {"public_key": key}}).install(FastAPI())
    assert words in str(refused.value)
    body = [
        line
        for line in key.replace("\\n", "\n").splitlines()
        if len(line) > 20 and "-----" not in line and "/" not in line[:1]
    ]
    assert not any(line in str(refused.value) for line in body)


@pytest.mark.parametrize("around", ["", '"', "'", "\n "])
def test_a_key_given_as_a_secret_is_refused(around: str) -> None:
    with pytest.raises(ValueError, match=r"auth\.secret is a PEM key"):
        AuthSettings.model_validate({"secret": around + GOOD})
