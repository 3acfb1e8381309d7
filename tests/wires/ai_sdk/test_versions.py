"""The checks of the stock client in several versions: the newest and the first ones of each major version."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING

import pytest

from tests.support import npm
from tests.support.npm import Checks, run_checks
from tests.wires.ai_sdk.checks import JS, names
from tests.wires.ai_sdk.graphs import place

if TYPE_CHECKING:
    from tests.wires.results import Tested

pytestmark = pytest.mark.wires

ZOD = "4.1.13"
VERSIONS = ["7.0.173", "7.0.0", "6.0.325", "6.0.0", "5.0.277"]


@functools.cache
def results(version: str) -> Checks:
    packages = npm.installed(f"ai-{version}", {"ai": version, "zod": ZOD})
    node = npm.node22() if version.startswith("7") else None
    clients = {"wires": {"ai_sdk_clients": "5"}} if version.startswith("5") else {}
    with place(**clients) as running:
        return asyncio.run(run_checks(JS / "checks.mjs", running.url, packages=packages, node=node))


@pytest.mark.parametrize("name", names("checks.mjs"))
@pytest.mark.parametrize("version", VERSIONS)
def test_a_check(version: str, name: str, tested: Tested) -> None:
    check = results(version)[name]
    tested("ai-sdk", "ai", version, check)
    if check.skipped:
        pytest.skip(check.skipped)
    assert check.passed, check.detail
