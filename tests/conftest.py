"""Fixtures for every test: asyncio only, no settings from the environment, no resource left behind."""

import asyncio
import functools
import gc
import importlib
import logging
import os
import signal
import threading
import time
from collections.abc import AsyncGenerator, Coroutine, Generator
from pathlib import Path
from typing import TYPE_CHECKING, cast
from uuid import uuid4

import pytest
from blockbuster import BlockBuster
from hypothesis import settings

from tests.support.authorities import share_authorities
from tests.support.browser import shared_browser
from tests.support.leaks import Footprint, footprint, forget_runs, left_since
from tests.support.programs import ordered, starts_programs

if TYPE_CHECKING:
    from tests.support.postgres_server import PostgresServer
    from tests.support.redis_server import RedisServer

share_authorities()
importlib.import_module("lg_streaming.observability.metrics")  # it reads a file: before that is watched

# Long enough for a loaded machine to end what is ending, short enough to notice a leak at once.
GRACE = 2.0

# An example's time depends on what else the machine does. In CI the same examples run every time, and all of them;
# `--hypothesis-profile=ci` does the same here. A test's own numbers hold everywhere.
settings.register_profile("quick", deadline=None, max_examples=10)
settings.register_profile("here", deadline=None, max_examples=50)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """asyncio alone: uvicorn, python-socketio and LangGraph know no other."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("LG_STREAMING_", "LANGSMITH_", "LANGCHAIN_")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _clean_logging() -> None:
    """Undo what a server of an earlier test did to uvicorn's loggers."""
    for name in ("uvicorn", "uvicorn.access", "uvicorn.asgi", "uvicorn.error"):
        logger = logging.getLogger(name)
        if logger.level != logging.NOTSET:  # a change of a level goes through all loggers, which costs milliseconds
            logger.setLevel(logging.NOTSET)
        logger.handlers.clear()
        logger.propagate = True


@pytest.fixture(scope="session")
def blocking_calls() -> BlockBuster:
    """The watch for calls with which lg_streaming blocks an event loop. To make it takes as long as an empty test."""
    return BlockBuster("lg_streaming")


@pytest.fixture(autouse=True)
def no_blocking_call(request: pytest.FixtureRequest) -> Generator[None]:
    """Fail where lg_streaming blocks the event loop of an async test: a file, a socket, a sleep, a lock."""
    if "anyio_backend" not in request.fixturenames:
        yield
        return
    watch: BlockBuster = request.getfixturevalue("blocking_calls")
    watch.activate()
    try:
        yield
    finally:
        watch.deactivate()


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Generator[None]:
    """Fail a test after which a thread, a TCP socket, a run or (in an async test) a task is still there.

    Resources from before the test are not counted, so that one of a wider scope (a Redis server, a browser) may stay.
    Pytest sets those up before this fixture. Runs are always counted.
    """
    before = footprint()
    if "anyio_backend" in request.fixturenames:
        request.getfixturevalue("no_pending_tasks")
    yield
    left = _wait_until_gone(before)
    if left:
        forget_runs()
        pytest.fail("left behind: " + "; ".join(left), pytrace=False)


@pytest.fixture(scope="module")
async def browser_connection(anyio_backend: str) -> AsyncGenerator[None]:
    """Share a connection to Chromium, and so an event loop, among the tests of a module that are marked `browser`."""
    async with shared_browser():
        yield


@pytest.fixture(scope="session")
def shared_redis() -> Generator["RedisServer"]:
    """A Redis server for the tests of a worker: they write below `redis_prefix`, and do not stop or flush it."""
    from tests.support.redis_server import redis_server

    with redis_server() as server:
        yield server


@pytest.fixture(scope="session")
def shared_postgres() -> Generator["PostgresServer"]:
    """A PostgreSQL server for the checkpoints of a worker's tests, which use different threads."""
    from tests.support.postgres_server import postgres_server

    with postgres_server() as server:
        yield server


@pytest.fixture
def redis_prefix() -> str:
    """A prefix for keys and channels that no other test has."""
    return f"lg-{uuid4().hex[:12]}"


@pytest.hookimpl(optionalhook=True)  # pytest runs without xdist, too
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run picked tests in this process, which starts them sooner, and all tests in two workers for each processor.

    Half of the time a test waits: for a server, a browser, a limit that takes effect.
    """
    picked = config.option.keyword or getattr(config.option, "lf", False) or config.args != config.getini("testpaths")
    return 0 if picked else 2 * (os.cpu_count() or 1)


def pytest_configure() -> None:
    """Let tests interrupt programs with SIGINT where a shell started this process in the background, and ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage while tests are collected, nor later in what is there then: modules and tests, which stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.hookimpl(tryfirst=True)  # before `-m` looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests with a browser their connection, and mark the tests of modules that start other programs.

    Workers take the long modules first, then these and the others in turn.
    """

    @functools.cache
    def starting(path: Path) -> bool:
        return starts_programs(path.read_text(encoding="utf-8"))

    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        if item.get_closest_marker("browser") and "anyio_backend" in item.fixturenames:
            item.fixturenames.insert(0, "browser_connection")
        if starting(item.path):
            item.add_marker("program")
    if "PYTEST_XDIST_WORKER" in os.environ:
        items[:] = ordered(items, module=lambda item: item.path, starts=lambda item: starting(item.path))


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, object, object]:
    """Replace half characters in what a test wrote: a worker could not send its report, and would end."""
    return _encodable((yield))


def _encodable(value: object) -> object:
    match value:
        case str():
            return value if value.isascii() else value.encode(errors="replace").decode()
        case dict():
            return {name: _encodable(each) for name, each in cast("dict[str, object]", value).items()}
        case list():
            return [_encodable(each) for each in cast("list[object]", value)]
        case tuple():
            return tuple(_encodable(each) for each in cast("tuple[object, ...]", value))
        case _:
            return value


@pytest.fixture
async def no_pending_tasks() -> AsyncGenerator[None]:
    before = asyncio.all_tasks()
    yield
    left = {task for task in asyncio.all_tasks() - before if not _of_the_runner(task)}
    if left:
        _, left = await asyncio.wait(left, timeout=GRACE)
    if left:
        names = sorted(repr(task) for task in left)
        for task in left:
            task.cancel()
        pytest.fail("tasks left behind: " + "; ".join(names), pytrace=False)


def _of_the_runner(task: asyncio.Task[object]) -> bool:
    """Return whether anyio made the task: one runs the tests and fixtures, another waits for the present part."""
    coroutine = task.get_coro()
    # The end of an async generator that was left in the middle is a coroutine without a name.
    return isinstance(coroutine, Coroutine) and getattr(coroutine, "__qualname__", "").startswith("TestRunner.")


def _wait_until_gone(before: Footprint) -> list[str]:
    deadline = time.monotonic() + GRACE
    while (left := left_since(before)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return left


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the repository."""
    return Path(__file__).resolve().parents[1]


def pytest_report_header() -> str:
    """Report how many threads the plugins started, for a reader of a leak report."""
    return f"threads before the tests: {threading.active_count()}"
