"""The pages of `examples/front_ends`, built with npm packages, and served at an origin of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.support import npm
from tests.support.server import Server, serve

ROOT: Final = Path(__file__).resolve().parents[3]
EXAMPLE: Final = ROOT / "examples/front_ends"
BUILD: Final = Path(__file__).with_name("build")
"""Copies of the pages with their packages, which stay for the next run of the tests."""
PAGES: Final = ("ai-sdk", "use-stream", "copilotkit")

_PLACEHOLDER: Final = "http://server.invalid"
"""Address of the server in the built files, which the site replaces."""
_TYPES: Final = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}


def build(page: str) -> Path:
    """Type-check and build a page; return the folder of the built files."""
    folder = BUILD / page
    packages = folder / "package.json"
    before = packages.read_text(encoding="utf-8") if packages.exists() else None
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(EXAMPLE / "look.css", BUILD)
    shutil.rmtree(folder / "src", ignore_errors=True)
    shutil.copytree(EXAMPLE / page, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules", "dist"))
    stamp = folder / "node_modules/.installed"
    if before != packages.read_text(encoding="utf-8") or not stamp.exists():
        stamp.unlink(missing_ok=True)
        npm.install(f"the page {page}", folder, f"the packages of examples/front_ends/{page}")
        stamp.touch()
    _run(folder, "npm", "run", "check")
    _run(folder, "npm", "run", "build")
    return folder / "dist"


def _run(folder: Path, *command: str) -> None:
    env = {**os.environ, "VITE_SERVER": _PLACEHOLDER, "SCARF_ANALYTICS": "false"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)} in {folder}:\n{done.stdout}{done.stderr}"


class Site:
    """A built page; `server` is the address of the server that it talks to."""

    def __init__(self, folder: Path) -> None:
        self.server = ""
        self._folder = folder
        self._app = Starlette(routes=[Route("/{path:path}", self._file)])

    @contextmanager
    def serving(self) -> Generator[Server]:
        """Serve the page at `origin`."""
        with serve(self._app) as server:
            yield server

    def _file(self, request: Request) -> Response:
        file = self._folder / (request.path_params["path"] or "index.html")
        if not file.is_file():
            return Response(status_code=404)
        content = file.read_bytes().replace(_PLACEHOLDER.encode(), self.server.encode())
        return Response(content, media_type=_TYPES.get(file.suffix, "application/octet-stream"))


def origin(server: Server) -> str:
    """Return the origin of a site. Its host name differs from the server's, so that browsers call it cross-site."""
    return f"http://localhost:{server.port}"
