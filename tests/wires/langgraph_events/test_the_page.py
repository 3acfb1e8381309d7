"""The pages of `docs/guide/front-ends/use-stream.md`, built and used."""

import asyncio
import subprocess
from pathlib import Path

import pytest

from tests.docs.fences import blocks_of
from tests.support.node import JS as TOOLS
from tests.wires.langgraph.places import JS as CLASSIC
from tests.wires.langgraph.places import check_all_passed, run_script
from tests.wires.langgraph.python_checks import Place
from tests.wires.langgraph_events.test_stock_clients import JS

pytestmark = [pytest.mark.anyio, pytest.mark.wires]

GUIDE = Path(__file__).parents[3] / "docs/guide/front-ends/use-stream.md"
PAGES = [block.code for block in blocks_of(GUIDE) if block.language == "jsx"]
MORE = """
export { createElement } from "react"
export { createRoot } from "react-dom/client"
"""


@pytest.mark.parametrize(("number", "packages"), [(0, CLASSIC), (1, JS)])
async def test_the_page(number: int, packages: Path, place: Place, tmp_path: Path) -> None:
    source, bundle = tmp_path / "page.jsx", tmp_path / "page.mjs"
    source.write_text(PAGES[number] + MORE)
    options = ("--bundle", "--platform=node", "--format=esm", "--jsx=automatic", "--log-level=error")
    await asyncio.to_thread(
        subprocess.run,
        [
            TOOLS / "node_modules/.bin/esbuild",
            source,
            *options,
            f"--outfile={bundle}",
            '--define:process.env.NODE_ENV="production"',
        ],
        env={"NODE_PATH": str(packages / "node_modules"), "PATH": "/usr/bin:/bin:/usr/local/bin"},
        check=True,
    )
    check_all_passed(await run_script(str(JS / "page.mjs"), place, bundle=str(bundle)))
