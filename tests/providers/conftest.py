from collections.abc import Generator

import pytest
from blockbuster import BlockBuster

from tests.capture.conftest import streaming
from tests.providers.models import import_packages

__all__ = ["streaming"]


@pytest.fixture(autouse=True, scope="session")
def _packages() -> None:
    import_packages()


@pytest.fixture(autouse=True)
def _no_certificates(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let clients read no certificates: each would read all of the machine's, and the stand-ins speak plain HTTP."""
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path_factory.getbasetemp()))


@pytest.fixture(autouse=True)
def no_blocking_call(request: pytest.FixtureRequest) -> Generator[None]:
    """Fail where lg_streaming blocks the loop; the packages look for certificates when they make their first client."""
    if "anyio_backend" not in request.fixturenames:
        yield
        return
    watch: BlockBuster = request.getfixturevalue("blocking_calls")
    watch.activate()
    watch.functions["os.stat"].deactivate()
    try:
        yield
    finally:
        watch.deactivate()
