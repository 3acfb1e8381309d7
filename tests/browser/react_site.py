"""The React example and a page for tests, type-checked and built with esbuild."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from tests.browser.place import EXECUTION, Place
from tests.support.js_package import build_package, unpack
from tests.support.node import JS

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/react"
PAGE = """<!doctype html>
<link rel="icon" href="data:,">
<script type="importmap">{ "imports": { "lg-streaming": "/lg-streaming.js" } }</script>
<div id="root"></div>
<script type="module" src="/built/harness.js"></script>"""

EXTERNAL = ("--external:lg-streaming", "--alias:lg-streaming/react=./node_modules/lg-streaming/dist/react/index.js")
"""Options of esbuild that bundle the hook, and leave the browser module out."""


@dataclass(frozen=True, slots=True)
class Build:
    """A copy of the example among the files it needs, where packages and results may lie."""

    example: Path

    def run(self, *command: str) -> str:
        """Return the output of a command in the example's folder, which finds its packages' commands."""
        path = f"{JS / 'node_modules/.bin'}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            command, cwd=self.example, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def script(self, name: str) -> str:
        """Does what `npm run name` does."""
        scripts = json.loads((self.example / "package.json").read_text(encoding="utf-8"))["scripts"]
        return self.run("sh", "-c", scripts[name])

    def server(self) -> ModuleType:
        """The example's `server.py`."""
        spec = importlib.util.spec_from_file_location("react_example_server", self.example / "server.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


def build(folder: Path) -> Build:
    """Builds the example with the whole npm package in it, and the page for tests with the server's browser module.

    The latter has React's checks for development.
    """
    example = folder / "examples/react"
    shutil.copytree(EXAMPLE, example, ignore=shutil.ignore_patterns("node_modules", "dist"))
    shutil.copytree(Path(__file__).with_name("react"), example, dirs_exist_ok=True)
    unpack(build_package(folder), example / "node_modules")
    built = Build(example)
    built.script("build")
    built.run("esbuild", "harness.tsx", "--bundle", "--format=esm", "--outdir=built", *EXTERNAL)
    built.run("esbuild", "server.tsx", "--bundle", "--platform=node", "--outfile=built/server.cjs")
    return built


class ReactPlace(Place):
    """A place whose page `/harness` is the one for tests."""

    def __init__(self, built: Build, **settings: Any) -> None:
        super().__init__(**settings)
        self._built = built

    def _app(self) -> FastAPI:
        app = super()._app()
        app.add_api_route("/harness", lambda: HTMLResponse(PAGE))
        app.mount("/built", StaticFiles(directory=self._built.example / "built"))
        return app

    def say(self, type: str, data: object, **scope: Any) -> None:
        """One update of the execution."""
        self.hub.emitter(EXECUTION, **scope).event(type, data)
