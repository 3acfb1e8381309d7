"""The checks of the stock client, in the version that is installed for all tests."""

import asyncio

import pytest

from tests.support.npm import Checks, run_checks
from tests.wires.ai_sdk.checks import JS, names
from tests.wires.ai_sdk.graphs import Place

NAMES = names("checks.mjs")


@pytest.fixture(scope="module")
def results(running: Place) -> Checks:
    return asyncio.run(run_checks(JS / "checks.mjs", running.url))


@pytest.mark.parametrize("name", [*NAMES, "the script ends"])
def test_a_check(results: Checks, name: str) -> None:
    check = results[name]
    assert check.passed, check.detail
