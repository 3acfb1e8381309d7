"""The npm package in applications: installed from its archive, compiled, bundled by Vite, and shown in a browser."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from playwright.async_api import expect

from tests.browser.place import EXECUTION, PATIENCE_MS, Place, page_at
from tests.npm.consumer import STRICT, errors_of, promised_errors, write_options
from tests.support import npm
from tests.support.js_package import build_package, pack, run
from tests.support.node import node_executable

APP = Path(__file__).with_name("app")
PUBLINT = "0.3.25"
ARE_THE_TYPES_WRONG = "0.18.5"

pytestmark = pytest.mark.wires


@dataclass(frozen=True, slots=True)
class Stack:
    """Versions of the packages of an application."""

    react: str
    types: str
    types_dom: str
    typescript: str
    vite: str

    def manifest(self, archive: Path) -> str:
        """Return a `package.json` that asks for these versions, and for the package in an archive."""
        packages = {
            "@types/react": self.types,
            "@types/react-dom": self.types_dom,
            "lg-streaming": f"file:{archive}",
            "react": self.react,
            "react-dom": self.react,
            "typescript": self.typescript,
            "vite": self.vite,
        }
        return json.dumps({"private": True, "type": "module", "dependencies": packages})


STACKS = {
    "react 18": Stack("18.3.1", "18.3.32", "18.3.7", "5.9.3", "6.4.6"),
    "react 19": Stack("19.3.1", "19.3.0", "19.3.0", "7.0.2", "8.4.0"),
}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(build_package(tmp_path_factory.mktemp("package")))[0]


@pytest.fixture(scope="module", params=STACKS)
def app(request: pytest.FixtureRequest, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Vite application with the package."""
    folder = tmp_path_factory.mktemp("app")
    shutil.copytree(APP, folder, dirs_exist_ok=True)
    shutil.copytree(STRICT, folder, dirs_exist_ok=True)
    (folder / "package.json").write_text(STACKS[request.param].manifest(archive), encoding="utf-8")
    npm.install(f"an application with {request.param}", folder, "its packages")
    return folder


@pytest.mark.parametrize("resolution", ["bundler", "nodenext"])
def test_right_use_compiles_and_wrong_use_does_not(app: Path, resolution: str) -> None:
    write_options(app, resolution)
    assert errors_of(app) == promised_errors()


def test_node_imports_the_package_and_renders_the_hook(app: Path) -> None:
    printed = json.loads(run(app, node_executable(), "--no-warnings", "server.mjs"))
    assert printed["rendered"] == ['<p data-state="connecting">unknown</p>', '<p data-state="idle">unknown</p>']


class Site(Place):
    """A server that also has the built application."""

    def __init__(self, built: Path) -> None:
        super().__init__()
        self._built = built

    def _app(self) -> FastAPI:
        app = super()._app()
        app.mount("/app", StaticFiles(directory=self._built, html=True))
        return app


@pytest.mark.browser
@pytest.mark.parametrize(
    ("options", "built", "asked"),
    [
        pytest.param([], "dist", 0, id="from the package"),
        pytest.param(["--config", "external.config.js"], "dist-external", 1, id="from the server"),
    ],
)
async def test_the_page_shows_a_run_with_the_client(app: Path, options: list[str], built: str, asked: int) -> None:
    run(app, node_executable(), "node_modules/vite/bin/vite.js", "build", "--base", "/app/", *options)
    site = Site(app / built)
    with site.serving():
        async with page_at(f"{site.url}/app/?execution={EXECUTION}") as page:
            module = "performance.getEntriesByName(new URL('/lg-streaming.js', location.href).href).length"
            assert await page.evaluate(module) == asked
            site.write("Hello ")
            await expect(page.locator("#text")).to_have_text("Hello", timeout=PATIENCE_MS)
            site.hub.emitter(EXECUTION).event("usage", {"total_tokens": 7})
            site.write("there.")
            await site.hub.close(EXECUTION)
            await expect(page.locator("main")).to_have_attribute("data-status", "completed", timeout=PATIENCE_MS)
            await expect(page.locator("#text")).to_have_text("Hello there.")
            await expect(page.locator("#tokens")).to_have_text("7")
    await site.hub.aclose()


# ---------------------------------------------------------------- checks of packages
def test_publint_finds_nothing(archive: Path) -> None:
    tool = npm.installed("publint", {"publint": PUBLINT}) / "node_modules/publint/src/cli.js"
    report = run(archive.parent, node_executable(), tool, archive, "--strict")
    assert "All good" in report


def test_every_way_of_an_es_module_finds_the_types(archive: Path) -> None:
    packages = npm.installed("are-the-types-wrong", {"@arethetypeswrong/cli": ARE_THE_TYPES_WRONG})
    tool = packages / "node_modules/@arethetypeswrong/cli/dist/index.js"
    report = run(archive.parent, node_executable(), tool, archive, "--profile=esm-only", "--format=ascii", "--no-emoji")
    assert report.count("bundler: OK") == 3
    assert report.count("node16 (from ESM): OK") == 3
