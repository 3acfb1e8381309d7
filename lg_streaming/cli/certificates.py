"""Validate a certificate and its key before a server starts with them."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Self

__all__ = ["Certificate", "CertificateError"]


class CertificateError(Exception):
    """The certificate or its key is not usable; the message names the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate and its key, as files in PEM format."""

    certfile: Path
    """The certificate, followed by the intermediate certificates."""
    keyfile: Path
    """The private key, not encrypted."""

    @classmethod
    def load(cls, certfile: Path | None, keyfile: Path | None) -> Self | None:
        """Validate the files; return None without files.

        Raises:
            CertificateError: If a file is missing or not readable, or the key does not match the certificate.
        """
        if certfile is None and keyfile is None:
            return None
        if certfile is None or keyfile is None:
            present, missing = ("--certfile", "--keyfile") if keyfile is None else ("--keyfile", "--certfile")
            raise CertificateError(f"{present} needs {missing} too: TLS takes a certificate and its key")
        for option, path in (("--certfile", certfile), ("--keyfile", keyfile)):
            _check_readable(option, path)
        _check_pair(certfile, keyfile)
        return cls(certfile=certfile, keyfile=keyfile)


def _check_readable(option: str, path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise CertificateError(f"{option} {path} cannot be read: {error.strerror}") from None


def _check_pair(certfile: Path, keyfile: Path) -> None:
    def refuse() -> str:
        raise CertificateError(f"--keyfile {keyfile} is encrypted: decrypt it with `openssl pkey -in … -out …`")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certfile, keyfile, password=refuse)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise CertificateError(f"--keyfile {keyfile} is not the key of --certfile {certfile}") from None
        raise CertificateError(
            f"--certfile {certfile} and --keyfile {keyfile} are not a certificate and a key in PEM format"
        ) from None
