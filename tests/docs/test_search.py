"""The search of the documentation's site finds the page that a reader looks for.

The site's own script searches, in Node, as it does in a reader's browser.
"""

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.node import JS, node_executable

ROOT = Path(__file__).resolve().parents[2]
FOUND = {
    "cancel": "guide/cancel/",
    "cancel run": "guide/cancel/",
    "human approval": "guide/human-in-the-loop/",
    "human prompt": "guide/human-in-the-loop/",
    "approve": "guide/human-in-the-loop/",
    "interrupt": "guide/human-in-the-loop/",
    "restart": "guide/durable-runs/",
    "survive restart": "guide/durable-runs/",
    "progress bar": "guide/run-progress/",
    "percentage": "guide/run-progress/",
    "background": "guide/runs/",
    "queue": "guide/runs/",
    "deadline": "guide/runs/",
    "start": "guide/start-runs/",
    "pause": "guide/steering/",
    "checkpoint": "guide/steering/",
}
"""The page that a query finds first, itself or a section of it."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Addresses that the site finds for each query, the best first."""
    site = tmp_path_factory.mktemp("docs") / "site"
    built = subprocess.run([ROOT / "tools/build-docs", site], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    command = [node_executable(), str(JS / "search.mjs"), str(site), *FOUND]
    searched = subprocess.run(command, capture_output=True, text=True, check=False)
    assert searched.returncode == 0, searched.stderr
    return json.loads(searched.stdout)


def test_each_query_finds_its_page_first(found: dict[str, list[str]]) -> None:
    wrong = {query: found[query][:3] for query, page in FOUND.items() if not found[query][0].startswith(page)}
    assert wrong == {}
