"""The protocol's suite for servers, and the stock client's checks in each version that the docs name."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import pytest

from lg_streaming import StreamingModule
from lg_streaming.gateway.dialects.durable_streams import DurableStreams
from tests.support.npm import installed, run_checks
from tests.support.server import serve
from tests.wires.durable_streams.conftest import JS
from tests.wires.durable_streams.door import Door
from tests.wires.durable_streams.place import FREE, PATH, Place
from tests.wires.durable_streams.test_stock_client import CHECKS

if TYPE_CHECKING:
    from tests.wires.results import Tested

pytestmark = pytest.mark.wires

CLIENT = "@durable-streams/client"
SUITE, SUITE_VERSION = "@durable-streams/server-conformance-tests", "0.3.6"
READS = (
    "^(?!.*(Idempotent Producers|different-body))(Basic|Append|Read|Long-Poll|HTTP Protocol|Browser|Case|Content-Type"
    "|HEAD Metadata should|Offset|Protocol Edge|Caching|Chunking|SSE Mode|JSON Mode|Property|Stream Closure)"
)
"""The suite's groups about reading, and what they need of writing."""
READ_TESTS = 184


@pytest.mark.parametrize("version", ["0.2.6", "0.2.7"])
def test_the_stock_client(running: Place, tested: Tested, version: str) -> None:
    packages = installed(f"durable-streams-{version}", {CLIENT: version})
    checks = asyncio.run(run_checks(JS / "checks.mjs", running.server.url, PATH, packages=packages, timeout=60))
    for name in CHECKS:
        tested("durable-streams", CLIENT, version, checks[name])
    failed = {check.name: check.detail for check in checks.found.values() if not check.passed}
    assert not failed


def test_the_suite_for_servers(tested: Tested, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DurableStreams, "wait", 2.0)
    module = StreamingModule(
        {
            "auth": {"enabled": False},
            "gateway": {"cors_origins": ["https://example.com"]},
            "limits": {**FREE, "connections_per_address": None, "update_bytes": 64 * 1024 * 1024},
            "retention": {"max_bytes": 1 << 31, "max_updates": 100_000},
        }
    )
    packages = installed("durable-streams-suite", {SUITE: SUITE_VERSION, "vitest": "4.1.12"})
    folder = Path(mkdtemp(dir=packages, prefix="run-"))
    try:
        shutil.copy(Path(__file__).with_name("conformance.test.mjs"), folder)
        with serve(Door(module, PATH), log_config=None) as server:
            done = subprocess.run(
                [
                    "node",
                    packages / "node_modules/vitest/vitest.mjs",
                    "run",
                    "--reporter=json",
                    "--testTimeout=30000",
                    "-t",
                    READS,
                ],
                cwd=folder,
                env={**os.environ, "DS_URL": server.url},
                capture_output=True,
                text=True,
                timeout=180,
                check=False,
            )
    finally:
        shutil.rmtree(folder)
    report: Any = json.loads(done.stdout[done.stdout.index("{") :])
    outcomes = [each for file in report["testResults"] for each in file["assertionResults"]]
    ran = [each for each in outcomes if each["status"] in {"passed", "failed"}]
    for each in ran:
        group = each["ancestorTitles"][0]
        tested("durable-streams", SUITE, SUITE_VERSION, group, passed=each["status"] == "passed")
    failed = {each["fullName"]: each["failureMessages"] for each in ran if each["status"] == "failed"}
    assert not failed
    assert Counter(each["status"] for each in ran) == {"passed": READ_TESTS}
