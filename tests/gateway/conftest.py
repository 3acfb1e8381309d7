import logging
from collections.abc import Generator

import pytest

from tests.gateway.site import Site, site


@pytest.fixture
def open_site() -> Generator[Site]:
    """A server with the default settings: callers from this machine, no token."""
    with site() as running:
        yield running


@pytest.fixture(autouse=True)
def no_traceback_in_the_log(caplog: pytest.LogCaptureFixture) -> Generator[None]:
    """Nothing a client does may end in a traceback."""
    caplog.set_level(logging.INFO)
    yield
    wrong = [record for record in caplog.get_records("call") if record.exc_info or record.levelno >= logging.ERROR]
    assert not [record.getMessage() for record in wrong]
