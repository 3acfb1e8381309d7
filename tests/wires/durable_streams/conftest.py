"""The results of the stock client's checks."""

import json
import subprocess
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.node import node_executable
from tests.wires.durable_streams.place import PATH, Place, place

JS = Path(__file__).parent / "js"


@pytest.fixture(scope="module")
def running() -> Generator[Place]:
    with place() as it:
        yield it


@pytest.fixture(scope="module")
def results(running: Place) -> Mapping[str, Any]:
    """What the checks of `js/checks.mjs` found, by their name."""
    done = subprocess.run(
        [node_executable(), "checks.mjs", running.server.url, PATH],
        cwd=JS,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {line["check"]: line["error"] for line in map(json.loads, done.stdout.splitlines())}
