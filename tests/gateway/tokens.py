"""Tokens to log in with: good ones, and the parts to forge others of."""

import base64
import json
import time
from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import get_default_algorithms

from lg_streaming.gateway.auth.peer import Peer
from lg_streaming.gateway.auth.policy import Policy
from lg_streaming.settings import AuthSettings

SECRET = "a secret of at least thirty-two bytes"
NOW = time.time()
LIFETIME = 86_400
"""Seconds. `NOW` is when the tests were collected, and some of them run on real servers long after that."""

KEYS: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


def peer(address: str | None = "127.0.0.1", **headers: str) -> Peer:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Peer(address=address, headers={"host": "localhost:8000", **names}, server=("127.0.0.1", 8000))


def claims(**more: Any) -> dict[str, Any]:
    """The claims of a good token, with some changed; None leaves one out."""
    return {key: value for key, value in {"sub": "alice", "exp": NOW + LIFETIME, **more}.items() if value is not None}


def token(key: Any = SECRET, algorithm: str = "HS256", headers: dict[str, Any] | None = None, **more: Any) -> str:
    return jwt.encode(claims(**more), key, algorithm, headers=headers)


def secret_policy(**more: Any) -> Policy:
    return Policy(AuthSettings.model_validate({"enabled": True, "secret": SECRET, **more}), clock=lambda: NOW)


def pem(private: Any) -> str:
    """The public half of a key."""
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def private_pem(private: Any) -> str:
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def jwk(private: Any, algorithm: str, **more: Any) -> dict[str, Any]:
    """Return the public half of a key as a JWK Set has it."""
    maker: Any = get_default_algorithms()[algorithm]
    return {**json.loads(maker.to_jwk(private.public_key())), **more}


def base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def part(value: object) -> str:
    """A part of a token: JSON of `value`, or the text itself."""
    return base64url((value if isinstance(value, str) else json.dumps(value)).encode())


def signed(key: Any, algorithm: str, header: object, body: object) -> str:
    """Return a token with a valid signature and any header and body; either may be text."""
    signing = f"{part(header)}.{part(body)}"
    method: Any = get_default_algorithms()[algorithm]
    return f"{signing}.{base64url(method.sign(signing.encode(), method.prepare_key(key)))}"


def unsigned(header: Mapping[str, Any], body: object, signature: str = "") -> str:
    return f"{part(dict(header))}.{part(body)}.{signature}"
