"""Helpers of the hub's tests."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from lg_streaming.events import StreamUpdate
from lg_streaming.hub import Page, StreamHub, Subscription
from lg_streaming.settings import LimitSettings, RetentionSettings, StreamingSettings

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds after which what does not come is missing."""


class MakeHub(Protocol):
    def __call__(
        self,
        *,
        log: Any = None,
        clock: Callable[[], float] | None = None,
        monotonic: Callable[[], float] | None = None,
        redact: Callable[[str, Any], Any] | None = None,
        **settings: float,
    ) -> StreamHub: ...


def settings_of(**values: float) -> StreamingSettings:
    limits = {name: value for name, value in values.items() if name in LimitSettings.model_fields}
    retention = {name: value for name, value in values.items() if name not in limits}
    return StreamingSettings(
        limits=LimitSettings.model_validate(limits), retention=RetentionSettings.model_validate(retention)
    )


async def soon(awaitable: Awaitable[T]) -> T:
    return await asyncio.wait_for(awaitable, PATIENCE)


async def collect(subscription: Subscription) -> list[StreamUpdate]:
    """Everything until the subscription ends."""
    return await soon(_collect(subscription))


async def _collect(subscription: Subscription) -> list[StreamUpdate]:
    return [update async for update in subscription]


async def take(subscription: Subscription, count: int) -> list[StreamUpdate]:
    """At least ``count`` updates, page by page; the subscription stays open."""
    got: list[StreamUpdate] = []
    while len(got) < count:
        got += (await page(subscription)).updates(subscription.execution_id)
    return got


async def page(subscription: Subscription, limit: int = 500) -> Page:
    return await soon(subscription.next_page(limit))


async def waiting(subscription: Subscription, limit: int = 500) -> asyncio.Task[Page]:
    """Return a task that waits for the next page."""
    task = asyncio.create_task(subscription.next_page(limit))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not task.done()
    return task


async def until(condition: Callable[[], bool]) -> None:
    """Wait for an effect of other threads."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


def seqs(updates: Iterable[StreamUpdate]) -> list[int]:
    return [update.metadata.sequence_number for update in updates]


def types(updates: Iterable[StreamUpdate]) -> list[str]:
    return [update.type for update in updates]


def contents(updates: Iterable[StreamUpdate]) -> list[Any]:
    """The data of the updates that are not about the run itself."""
    return [update.data for update in updates if update.kind != "status"]


def upto(last: int) -> list[int]:
    return list(range(1, last + 1))


class Threads:
    """Runs functions in threads at once; leaving the block waits for them and raises what they raised."""

    def __init__(self, *jobs: Callable[[], object]) -> None:
        self._errors: list[BaseException] = []
        self._barrier = threading.Barrier(len(jobs))
        self._threads = [threading.Thread(target=self._run, args=(job,)) for job in jobs]

    def _run(self, job: Callable[[], object]) -> None:
        self._barrier.wait()
        try:
            job()
        except BaseException as error:  # noqa: BLE001 (raised again in the test's own thread)
            self._errors.append(error)

    def start(self) -> "Threads":
        for thread in self._threads:
            thread.start()
        return self

    async def join(self) -> None:
        for thread in self._threads:
            await until(lambda thread=thread: not thread.is_alive())
            thread.join()
        if self._errors:
            raise self._errors[0]


def publish_many(hub: StreamHub, execution_id: str, values: Sequence[object]) -> None:
    for value in values:
        hub.publish(execution_id, "token", value)
