from collections.abc import Generator

import pytest
from blockbuster import blockbuster_ctx

from tests.capture.conftest import streaming

__all__ = ["streaming"]


@pytest.fixture(autouse=True)
def no_blocking_call(request: pytest.FixtureRequest) -> Generator[None]:
    """Fail where lg_streaming blocks the loop; the packages look for certificates when they make their first client."""
    if "anyio_backend" not in request.fixturenames:
        yield
        return
    with blockbuster_ctx("lg_streaming") as watch:
        watch.functions["os.stat"].deactivate()
        yield
