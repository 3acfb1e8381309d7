"""The keys that tokens are checked with. The key decides the algorithms, never the token.

So `none`, and a public key used as a shared secret, get nowhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from lg_streaming.errors import StreamingConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.settings import AuthSettings

__all__ = ["USUAL", "CheckingKey", "Keys", "StaticKeys", "algorithms_of", "static_keys"]

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey
CheckingKey = PublicKey | str
"""A public key, or a shared secret."""

USUAL: Final = frozenset({"RS256", "ES256", "EdDSA"})
"""What is accepted of a public key unless `auth.algorithms` says otherwise."""

_MIN_RSA_BITS: Final = 2_048
_CURVES: Final = {"secp256r1": ("ES256",), "secp384r1": ("ES384",), "secp521r1": ("ES512",)}


class Keys(Protocol):
    """Where a token's key is looked up."""

    async def find(self, algorithm: str, kid: str | None) -> CheckingKey | None:
        """The key for a token that names `algorithm` and `kid`; None: there is none, so the token does not hold.

        Raises:
            KeysUnavailableError: It cannot be told now.
        """
        ...


class StaticKeys:
    """One key, known from the start; a token's `kid` makes no difference.

    Args:
        keys: The key of each accepted algorithm.
    """

    def __init__(self, keys: Mapping[str, CheckingKey]) -> None:
        self._keys = keys

    async def find(self, algorithm: str, kid: str | None) -> CheckingKey | None:  # noqa: ARG002
        """See `Keys.find`."""
        return self._keys.get(algorithm)


def static_keys(settings: AuthSettings) -> StaticKeys | None:
    """The key in the settings; None: there is none.

    Raises:
        StreamingConfigError: It cannot be used.
    """
    if settings.secret is not None:
        secret = settings.secret.get_secret_value()
        return StaticKeys(dict.fromkeys(settings.algorithms or ("HS256",), secret))
    if settings.public_key is None:
        return None
    try:
        key = load_pem_public_key(settings.public_key.encode())
    except ValueError as error:
        raise StreamingConfigError(f"auth.public_key is not a PEM public key: {error}") from None
    if isinstance(key, RSAPublicKey) and key.key_size < _MIN_RSA_BITS:
        raise StreamingConfigError(f"auth.public_key has {key.key_size} bits: an RSA key needs {_MIN_RSA_BITS}")
    able = algorithms_of(key)
    accepted = settings.algorithms or tuple(name for name in able if name in USUAL)
    if not isinstance(key, PublicKey) or not accepted or not set(accepted) <= set(able):
        raise StreamingConfigError(
            f"auth.public_key can check {', '.join(able) or 'no known algorithm'}: set auth.algorithms to one of these"
        )
    return StaticKeys(dict.fromkeys(accepted, key))


def algorithms_of(key: object) -> tuple[str, ...]:
    """The algorithms that go with a public key; none with anything else, and none with an RSA key under 2,048 bits."""
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
