"""The documentation's site: its search finds the page that a reader looks for, and its pages fit the window.

The site's own script searches, in Node, as it does in a reader's browser.
"""

import html
import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.browser import chromium_page
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
    "filter by node": "guide/filters/",
    "filter": "guide/filters/",
    "scale": "guide/scaling/",
    "worker": "guide/workers/",
    "agents": "guide/agents/",
    "watch page": "guide/watch/",
    "cost": "guide/cost/",
    "usage": "guide/cost/",
    "compare": "explanation/choosing/",
}
"""The page that a query finds first, itself or a section of it."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    built = subprocess.run([ROOT / "tools/build-docs", folder], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.fixture(scope="module")
def found(site: Path) -> dict[str, list[str]]:
    """Addresses that the site finds for each query, the best first."""
    command = [node_executable(), str(JS / "search.mjs"), str(site), *FOUND]
    searched = subprocess.run(command, capture_output=True, text=True, check=False)
    assert searched.returncode == 0, searched.stderr
    return json.loads(searched.stdout)


def test_each_query_finds_its_page_first(found: dict[str, list[str]]) -> None:
    wrong = {query: found[query][:3] for query, page in FOUND.items() if not found[query][0].startswith(page)}
    assert wrong == {}


MOST_COLUMNS = 88


def widest(page: Path) -> int:
    """Return the length of the longest line of code on a page."""
    blocks = re.findall(r"<code[^>]*>(.*?)</code></pre>", page.read_text(encoding="utf-8"), re.DOTALL)
    texts = [html.unescape(re.sub(r"<[^>]+>", "", block)) for block in blocks]
    return max((len(line) for text in texts for line in text.splitlines()), default=0)


@pytest.mark.browser
async def test_no_code_and_no_diagram_is_cut_on_a_laptop(site: Path) -> None:
    cut: dict[str, list[str]] = {}
    async with chromium_page(width=1280, height=800) as page:
        for file in sorted(site.rglob("index.html")):
            if "reference" in file.parts or widest(file) < MOST_COLUMNS:  # long signatures scroll
                continue
            await page.goto(file.as_uri(), wait_until="domcontentloaded")
            found = await page.evaluate(
                """() => [...document.querySelectorAll("article pre code, article img, article svg.diagram")]
                    .filter((one) => one.scrollWidth > one.clientWidth + 1)
                    .map((one) => (one.textContent || one.src).slice(0, 80))"""
            )
            if found:
                cut[str(file.relative_to(site))] = found
    assert cut == {}
