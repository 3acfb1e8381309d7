import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme


@dataclass(frozen=True, slots=True, kw_only=True)
class Pki:
    """A certificate for this machine, its key, and what a client trusts."""

    certfile: Path
    keyfile: Path
    other_key: Path
    authority: str
    context: ssl.SSLContext

    @property
    def options(self) -> tuple[str, str]:
        return f"--certfile={self.certfile}", f"--keyfile={self.keyfile}"


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    folder = tmp_path_factory.mktemp("pki")
    authority = trustme.CA()
    issued, other = authority.issue_cert("127.0.0.1", "localhost"), authority.issue_cert("127.0.0.1")
    chain = folder / "chain.pem"
    chain.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(folder / "key.pem")
    other.private_key_pem.write_to_path(folder / "other.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return Pki(
        certfile=chain,
        keyfile=folder / "key.pem",
        other_key=folder / "other.pem",
        authority=authority.cert_pem.bytes().decode(),
        context=context,
    )
