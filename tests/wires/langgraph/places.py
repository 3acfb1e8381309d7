"""Servers of the tests, and the scripts that drive the stock JavaScript clients."""

import asyncio
import json
import os
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.node import node_executable
from tests.support.npm import check_packages
from tests.support.server import ServerProcess, serve_process
from tests.wires.langgraph.python_checks import Place
from tests.wires.results import Tested

__all__ = ["APP", "JS", "check_all_passed", "place_of", "record", "run_script", "serving"]

EXPECTED = re.compile(r"^(ValueError: boom|.*UnluckyError: at the first try)", re.MULTILINE)
"""Errors that nodes of the graphs raise."""

APP = "tests.wires.langgraph.app:make()"
JS = Path(__file__).parent / "js"
TIMEOUT = 120.0


def place_of(server: ServerProcess, gates: Path) -> Place:
    """A server and its gates."""
    return Place(server.url, gates)


@contextmanager
def serving(gates: Path, env: Mapping[str, str] | None = None, **options: Any) -> Generator[ServerProcess]:
    """A server in another process. Its log may have no traceback, apart from those of nodes that fail on purpose."""
    with serve_process(APP, env={"GATES": str(gates), **(env or {})}, **options) as server:
        yield server
    _, *tracebacks = server.log.split("Traceback (most recent call last):")
    assert not [each for each in tracebacks if not EXPECTED.search(each)], server.log


async def run_script(script: str, place: Place, **options: Any) -> dict[str, str | None]:
    """The errors of a script's checks, by their names; None for a check that passed."""
    check_packages(JS)
    given = json.dumps({"reference": place.is_reference, **options})
    process = await asyncio.create_subprocess_exec(
        *(node_executable(), JS / script, place.url, place.gates, given),
        env={**os.environ, "NODE_ENV": "production"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(TIMEOUT):
            output, complaints = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, complaints.decode()[-4000:]
    lines = [json.loads(line) for line in output.splitlines()]
    return {line["check"]: line["error"] for line in lines}


def record(tested: Tested, client: str, version: str, found: Mapping[str, str | None]) -> None:
    """Record the outcomes of a script's checks; their names in the script become words."""
    for check, error in sorted(found.items()):  # they end in any order
        words = re.sub(r"(?<=[a-zA-Z])(?=[A-Z])|_", " ", check).lower()
        tested("langgraph", client, version, words, passed=error is None)


def check_all_passed(found: Mapping[str, str | None], least: int = 1) -> None:
    """Fail with the errors of a script's checks, of which there are at least so many."""
    assert len(found) >= least
    if wrong := [f"{check}: {error}" for check, error in found.items() if error is not None]:
        pytest.fail("\n\n".join(wrong), pytrace=False)
