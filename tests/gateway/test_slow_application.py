"""An application that is slow for one caller keeps no other waiting, nor itself; who waits is counted."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from lg_streaming.gateway import Principal
from tests.gateway.contract.adapters import PATIENCE, READERS, Readers, readers_of
from tests.gateway.site import SECRET, Site, site
from tests.gateway.test_events import bearer

AUTH: dict[str, Any] = {"secret": SECRET}
NO_RATES: dict[str, Any] = {"messages_per_second": None, "connects_per_address": None, "connections_per_subject": None}


class Application:
    """An `authorize` that blocks for one subject until it is released, and allows all."""

    def __init__(self, answer: bool) -> None:
        self.answer = answer
        self.inside = 0
        self.most = 0
        self.open = threading.Event()
        self._lock = threading.Lock()

    def __call__(self, principal: Principal, *_: object) -> bool:
        if principal.subject == "mallory":
            with self._lock:
                self.inside += 1
                self.most = max(self.most, self.inside)
            self.open.wait(PATIENCE)
            with self._lock:
                self.inside -= 1
        return self.answer


def _as(asked: str, application: Application) -> dict[str, Any]:
    return {asked: application}


def _get(http: httpx2.AsyncClient, subject: str, path: str = "/executions/e") -> Coroutine[Any, Any, httpx2.Response]:
    return http.get(path, headers={"Authorization": f"Bearer {bearer(subject)}"})


@asynccontextmanager
async def many(count: int, ask: Callable[[], Coroutine[Any, Any, object]]) -> AsyncGenerator[None]:
    """So many requests at the same time, until the block ends."""
    tasks = [asyncio.create_task(ask()) for _ in range(count)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture(params=["authorize", "revoked"])
def asked(request: pytest.FixtureRequest) -> str:
    return request.param


async def test_a_slow_answer_for_one_keeps_no_other_waiting(asked: str) -> None:
    application = Application(answer=asked == "authorize")
    with site(auth=AUTH, limits=NO_RATES, **_as(asked, application)) as place:
        place.hub.open("e", owner="alice" if asked == "revoked" else "nobody")
        limits = httpx2.Limits(max_connections=None)
        async with (
            httpx2.AsyncClient(base_url=place.url, timeout=PATIENCE, limits=limits) as http,
            many(60, lambda: _get(http, "mallory")),
        ):
            await until(lambda: application.inside == 8)
            async with asyncio.timeout(PATIENCE):
                for subject in ("alice", "carol"):
                    assert (await _get(http, subject)).status_code in {200, 403}
                # The default executor of the server's event loop is free for the application.
                loop = place.gateway._lifecycle.loop  # pyright: ignore[reportPrivateUsage]
                assert loop is not None
                future = asyncio.run_coroutine_threadsafe(asyncio.to_thread(str.upper, "free"), loop)
                assert await asyncio.wrap_future(future) == "FREE"
            assert application.most == 8
            application.open.set()
    assert application.inside == 0


async def test_slow_initial_data_holds_up_no_rights() -> None:
    application = Application(answer=True)
    entered = threading.Semaphore(0)

    def initial_data(_: str) -> str:
        entered.release()
        application.open.wait(PATIENCE)
        return "shown"

    with site(auth=AUTH, limits=NO_RATES, authorize=application, initial_data=initial_data) as place:
        place.hub.open("e", owner="mallory")
        limits = httpx2.Limits(max_connections=None)
        async with (
            httpx2.AsyncClient(base_url=place.url, timeout=PATIENCE, limits=limits) as http,
            many(30, lambda: _get(http, "mallory", "/executions/e/stream")),
        ):
            for _ in range(8):
                assert await asyncio.to_thread(entered.acquire, timeout=PATIENCE)
            assert (await _get(http, "alice")).status_code == 200
            application.open.set()


@pytest.mark.parametrize("kind", READERS)
async def test_logins_that_wait_are_counted_by_address(kind: str) -> None:
    application = Application(answer=False)
    limits = {**NO_RATES, "connections_per_address": 5}
    with site(auth=AUTH, limits=limits, revoked=application) as place:
        place.hub.open("e", owner="mallory")
        async with readers_of(READERS[kind]) as readers:
            async with many(5, lambda: readers(place.server, token=bearer("mallory")).subscribe("e")):
                await until(lambda: application.inside == 5)
                sixth = await _refused(readers, place)
                assert sixth == 4291
                elsewhere = httpx2.AsyncHTTPTransport(local_address="127.0.0.2")
                async with httpx2.AsyncClient(transport=elsewhere, base_url=place.url, timeout=PATIENCE) as http:
                    assert (await _get(http, "alice")).status_code == 403
            application.open.set()
        await until(lambda: not application.inside)
        await until(lambda: not place.gateway.connections)
        async with readers_of(READERS[kind]) as readers:  # their places are free again
            assert (await readers(place.server, token=bearer("mallory")).subscribe("e"))["ok"]


async def _refused(readers: Readers, place: Site) -> int:
    """The code with which one more is refused."""
    reader = readers(place.server, token=bearer("mallory"))
    try:
        async with asyncio.timeout(PATIENCE):
            await reader.subscribe("e")
    except Exception as error:
        code = getattr(error, "code", None) or reader.close_code
        if isinstance(code, int):
            return code
        raise
    raise AssertionError("it was let in")
