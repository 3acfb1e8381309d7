"""The keys that tokens are checked with. The key decides the algorithms, never the token.

So a token with the algorithm `none`, or with a public key as its shared secret, is refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from lg_streaming.errors import StreamingConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.settings import AuthSettings

__all__ = ["DEFAULT_ALGORITHMS", "CheckingKey", "Keys", "StaticKeys", "algorithms_of", "static_keys"]

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey
CheckingKey = PublicKey | str
"""A public key, or a shared secret."""

DEFAULT_ALGORITHMS: Final = frozenset({"RS256", "ES256", "EdDSA"})
"""Algorithms accepted with a public key, unless `auth.algorithms` is set."""

_PEM: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]{1,40})-----(.*?)-----END \1-----", re.DOTALL)
_MIN_RSA_BITS: Final = 2_048
_CURVES: Final = {"secp256r1": ("ES256",), "secp384r1": ("ES384",), "secp521r1": ("ES512",)}


class Keys(Protocol):
    """Source of the keys of tokens."""

    async def find(self, algorithm: str, kid: str | None) -> CheckingKey | None:
        """Return the key for a token with `algorithm` and `kid`; None if the token has no valid key.

        Raises:
            KeysUnavailableError: If the key set cannot be fetched.
        """
        ...


class StaticKeys:
    """The key of the settings; a token's `kid` is ignored.

    Args:
        keys: The key of each accepted algorithm.
    """

    def __init__(self, keys: Mapping[str, CheckingKey]) -> None:
        self._keys = keys

    async def find(self, algorithm: str, kid: str | None) -> CheckingKey | None:  # noqa: ARG002
        """See `Keys.find`."""
        return self._keys.get(algorithm)


def static_keys(settings: AuthSettings) -> StaticKeys | None:
    """Return the key in the settings; None if the settings have no key.

    Raises:
        StreamingConfigError: If the key cannot be used.
    """
    if settings.secret is not None:
        secret = settings.secret.get_secret_value()
        return StaticKeys(dict.fromkeys(settings.algorithms or ("HS256",), secret))
    if settings.public_key is None:
        return None
    key = _public_key(settings.public_key)
    if isinstance(key, RSAPublicKey) and key.key_size < _MIN_RSA_BITS:
        raise StreamingConfigError(f"auth.public_key has {key.key_size} bits: an RSA key needs {_MIN_RSA_BITS}")
    able = algorithms_of(key)
    accepted = settings.algorithms or tuple(name for name in able if name in DEFAULT_ALGORITHMS)
    if not isinstance(key, PublicKey) or not accepted or not set(accepted) <= set(able):
        raise StreamingConfigError(
            f"auth.public_key can check {', '.join(able) or 'no known algorithm'}: set auth.algorithms to one of these"
        )
    return StaticKeys(dict.fromkeys(accepted, key))


def _public_key(text: str) -> object:
    """Parse a public key from a text, which may come from an environment variable or another system's file.

    Raises:
        StreamingConfigError: If the text holds no public key. The message does not quote it.
    """
    pem = pem_of(text)
    found = _PEM.search(pem)
    label = found[1] if found is not None else None
    if label is None:
        wrong = "has no -----BEGIN PUBLIC KEY----- and -----END PUBLIC KEY----- line"
        if "-----BEGIN" in text:
            wrong = "is cut off: its -----END line is missing or does not match its -----BEGIN line"
        raise StreamingConfigError(
            f"auth.public_key {wrong}: give the key itself in PEM, not a path; \\n may replace its line breaks"
        )
    if "PRIVATE KEY" in label:
        raise StreamingConfigError(
            "auth.public_key is a private key: give the public one, openssl pkey -in private.pem -pubout prints it"
        )
    if label == "CERTIFICATE":
        raise StreamingConfigError(
            "auth.public_key is a certificate: give its key, openssl x509 -in cert.pem -pubkey -noout prints it"
        )
    try:
        return load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise StreamingConfigError(
            f"auth.public_key is not a PEM public key: {str(error)[:200]}; copy it again, whole"
        ) from None


def pem_of(text: str) -> str:
    r"""Return PEM with its line breaks restored.

    Environment variables may add quotes, turn line breaks into ``\n``, spaces or CRLF, and drop the last one. Text
    without a whole block of PEM is returned as it is.
    """
    plain = text.replace("\\r", "\n").replace("\\n", "\n")
    found = _PEM.search(plain)
    if found is None:
        return text
    label, body = found[1], "".join(found[2].split())
    lines = [body[start : start + 64] for start in range(0, len(body), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])


def algorithms_of(key: object) -> tuple[str, ...]:
    """Return the algorithms of a public key; none for an RSA key under 2,048 bits, or another object."""
    match key:
        case RSAPublicKey():
            strong = key.key_size >= _MIN_RSA_BITS
            return ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512") if strong else ()
        case EllipticCurvePublicKey():
            return _CURVES.get(key.curve.name, ())
        case Ed25519PublicKey() | Ed448PublicKey():
            return ("EdDSA",)
        case _:
            return ()
