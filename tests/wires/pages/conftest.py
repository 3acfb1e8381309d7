"""Built pages, and servers of the example."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lg_streaming.serving import HTTPProtocol, WebSocketProtocol
from tests.support.server import serve
from tests.wires.pages.driving import Kind
from tests.wires.pages.durable import load_server
from tests.wires.pages.site import EXAMPLE, PAGES, Site, build, origin
from tests.wires.results import Tested


@dataclass(frozen=True)
class Place:
    """Addresses of a page and of the server that it talks to."""

    page: str
    server: str


@pytest.fixture(scope="session")
def server() -> ModuleType:
    """The example's `server.py`."""
    return load_server()


@pytest.fixture(scope="session")
def built() -> Callable[[str], Path]:
    """Return the folder of a built page, which is built at its first use."""
    folders: dict[str, Path] = {}

    def get(page: str) -> Path:
        if page not in folders:
            folders[page] = build(page)
        return folders[page]

    assert set(PAGES) == {folder.parent.name for folder in EXAMPLE.glob("*/package.json")}
    return get


@pytest.fixture
def recorded(request: pytest.FixtureRequest, tested: Tested) -> Callable[[Kind], None]:
    """Return a function that records the test as a check of a page."""
    check = request.node.originalname.removeprefix("test_").replace("_", " ")

    def record(kind: Kind) -> None:
        packages = json.loads((EXAMPLE / kind.page / "package.json").read_text(encoding="utf-8"))
        version = f"{kind.client} {packages['dependencies'][kind.client]}"
        tested(kind.wire, "examples/front_ends in chromium", version, check)

    return record


@pytest.fixture
def opened(server: ModuleType, built: Callable[[str], Path]) -> Callable[..., Any]:
    """Return a context that serves the example and a page, each at its own origin, and has the page's address."""

    @contextmanager
    def open_(kind: Kind, *, delay: float = 0.02, pause: float = 0.1) -> Generator[Place]:
        site = Site(built(kind.page))
        with ExitStack() as stack:
            pages = stack.enter_context(site.serving())
            app = server.build_app(delay=delay, pause=pause, origins=(origin(pages),))
            running = stack.enter_context(serve(app, http=HTTPProtocol, ws=WebSocketProtocol))
            site.server = running.url
            yield Place(page=f"{origin(pages)}/{kind.file}", server=running.url)

    return open_
