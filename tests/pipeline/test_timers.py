"""The one timer thread of the process."""

import gc
import logging
import threading
import time
from datetime import timedelta
from typing import Any

import pytest

from lg_streaming import ProgressTracker
from lg_streaming.pipeline import branches
from lg_streaming.pipeline.timers import SharedTimer
from tests.pipeline.progress_kit import Recorder, tracker

WAIT = 10.0


def timer_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "lg-streaming-timer"]


def nothing(*_: object) -> None:
    pass


def test_it_runs_what_is_due_in_order_on_one_thread() -> None:
    timer, done, names = SharedTimer(linger=0.01), threading.Event(), list[tuple[str, str]]()

    def say(_: object, word: Any) -> None:
        names.append((word, threading.current_thread().name))
        if word == "last":
            done.set()

    timer.schedule_relative(0.04, say, "last")
    timer.schedule_absolute(timer.now + timedelta(seconds=0.02), say, "second")
    timer.schedule(say, "first")
    timer.schedule_relative(0.03, say, "cancelled").dispose()
    assert done.wait(WAIT)
    assert names == [(word, "lg-streaming-timer") for word in ("first", "second", "last")]


def test_an_action_that_raises_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    timer, done = SharedTimer(linger=0.01), threading.Event()

    def ring(*_: object) -> None:
        done.set()

    def fail(*_: object) -> None:
        raise LookupError("oops")

    with caplog.at_level(logging.ERROR):
        timer.schedule(fail)
        timer.schedule_relative(0.01, ring)
        assert done.wait(WAIT)
    assert "oops" in caplog.text


def test_what_is_cancelled_keeps_no_thread_and_no_memory() -> None:
    timer = SharedTimer(linger=0.01)
    entries = [timer.schedule_relative(3600.0, nothing) for _ in range(1_000)]
    for entry in entries:
        entry.dispose()
        entry.dispose()
    assert timer.waiting == 0
    deadline = time.monotonic() + WAIT
    while timer_threads() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert timer_threads() == []
    again = timer.schedule_relative(3600.0, nothing)  # and it starts again
    assert timer_threads() == ["lg-streaming-timer"]
    again.dispose()


def test_many_nodes_leave_nothing_behind_and_share_one_thread() -> None:
    before = threading.active_count()
    recorder = tracker()[1]
    trackers = [ProgressTracker(Recorder(recorder.clock)) for _ in range(1_000)]
    for number in range(1_000):
        trackers[number].begin()
        trackers[number].update(1, 2)  # held: each waits for its interval
    assert threading.active_count() <= before + 1
    while trackers:
        trackers.pop().finish("completed")
    gc.collect()
    assert not branches.GROUPS
    assert not [each for each in gc.get_objects() if type(each) is ProgressTracker and each.active]
