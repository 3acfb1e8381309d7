from collections.abc import AsyncGenerator, Generator

import pytest

from tests.gateway.contract.adapters import LASTING, READERS, SOCKETS, Readers, readers_of
from tests.gateway.site import Site, site


@pytest.fixture(params=READERS)
async def readers(request: pytest.FixtureRequest) -> AsyncGenerator[Readers]:
    """Makes readers: the test is run over each transport."""
    async with readers_of(READERS[request.param]) as made:
        yield made


@pytest.fixture(params=LASTING)
async def lasting(request: pytest.FixtureRequest) -> AsyncGenerator[Readers]:
    """Makes readers over the transports that hold a connection as long as they read."""
    async with readers_of(LASTING[request.param]) as made:
        yield made


@pytest.fixture(params=SOCKETS)
async def sockets(request: pytest.FixtureRequest) -> AsyncGenerator[Readers]:
    """Makes readers over the transports on which a client can speak."""
    async with readers_of(SOCKETS[request.param]) as made:
        yield made


@pytest.fixture(scope="package")
def shared_site() -> Generator[Site]:
    """Return one server for all tests that leave it unchanged; each uses its own executions."""
    with site(limits={"messages_per_second": None, "connects_per_address": None}) as running:
        yield running
