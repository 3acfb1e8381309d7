"""Waiting for a notification: it releases every task once, and leaves nothing behind."""
# pyright: reportPrivateUsage=false

import asyncio
import threading

import pytest

from lg_streaming.hub.notifier import Notifier
from tests.hub.helpers import soon


async def waiting(notifier: Notifier, tasks: int) -> list[asyncio.Task[None]]:
    generation = notifier.generation
    started = [asyncio.create_task(notifier.wait(generation)) for _ in range(tasks)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in started)
    return started


@pytest.mark.parametrize("tasks", [1, 3])
async def test_a_notification_releases_the_tasks_of_its_own_loop(tasks: int) -> None:
    notifier = Notifier()
    started = await waiting(notifier, tasks)
    notifier.notify()
    await soon(asyncio.gather(*started))
    assert not notifier._waiters


@pytest.mark.parametrize("tasks", [1, 3])
async def test_a_notification_of_another_thread_releases_them(tasks: int) -> None:
    notifier = Notifier()
    started = await waiting(notifier, tasks)
    thread = threading.Thread(target=notifier.notify)
    thread.start()
    await soon(asyncio.gather(*started))
    thread.join()
    assert not notifier._waiters


async def test_a_task_that_is_cancelled_is_forgotten_and_the_others_wait_on() -> None:
    notifier = Notifier()
    first, second = await waiting(notifier, 2)
    first.cancel()
    await asyncio.wait({first})
    assert [len(futures) for futures in notifier._waiters.values()] == [1]
    second.cancel()
    await asyncio.wait({second})
    assert not notifier._waiters
    (third,) = await waiting(notifier, 1)
    third.cancel()
    notifier.notify()
    await asyncio.wait({third})
    assert not notifier._waiters


async def test_a_wait_that_ends_by_time_is_forgotten() -> None:
    notifier = Notifier()
    await soon(notifier.wait(notifier.generation, at_most=0.0))
    assert not notifier._waiters


async def test_a_wait_for_a_former_generation_ends_at_once() -> None:
    notifier = Notifier()
    generation = notifier.generation
    notifier.notify()
    await soon(notifier.wait(generation))
