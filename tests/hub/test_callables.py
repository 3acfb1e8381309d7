"""The hub calls functions of the application without a lock: they may publish, and wait."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from lg_streaming.errors import PromptError
from lg_streaming.events import StreamUpdate
from lg_streaming.hub import StreamHub
from lg_streaming.publisher import RunOutcome
from tests.hub.helpers import PATIENCE, page, types

E = "e"


def done_soon(call: Callable[[], object]) -> bool:
    """Return whether `call` returns; in a thread, which a deadlock may block."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(PATIENCE / 2)
    return not thread.is_alive()


async def written(hub: StreamHub) -> list[StreamUpdate]:
    """All that is in the log."""
    return (await page(hub.subscribe(E, follow=True))).updates(E)


def drive(hub: StreamHub) -> None:
    """Publish every status update of a run."""

    async def main() -> None:
        run_id = hub.runs.join_run(E, name="graph")
        hub.emit(E, "human_prompt", {"prompt_id": "p", "prompt": "?"})
        hub.runs.leave_run(E, run_id, RunOutcome("workflow_interrupted", {}))
        hub.runs.resume_run(E)
        await hub.respond(E, "p", "yes")
        await hub.fail(E, ValueError("no"), terminate=False)
        hub.runs.leave_run(E, run_id, RunOutcome("workflow_complete", {"result": 1}))
        hub.open(E)
        await hub.cancel(E, "enough")
        hub.open(E)
        await hub.fail(E, ValueError("no"))
        hub.open(E)
        await hub.close(E, 1)

    asyncio.run(main())


SAID = [
    "workflow_start",
    "human_prompt",
    "workflow_interrupted",
    "status",
    "human_response",
    "error",
    "workflow_complete",
    "workflow_start",
    "workflow_cancelled",
    "workflow_start",
    "workflow_error",
    "workflow_start",
    "workflow_complete",
]


def test_redact_may_write_to_the_same_execution_whatever_it_is_called_for() -> None:
    asked: list[str] = []

    def redact(type: str, data: Any) -> Any:
        asked.append(type)
        if type not in {"audit", "workflow_start"}:
            hub.emit(E, "audit", {"of": type})
        return data

    hub = StreamHub(redact=redact)
    assert done_soon(lambda: drive(hub))
    assert [name for name in asked if name != "audit"] == SAID
    in_log = types(asyncio.run(written(hub)))
    assert [name for name in in_log if name != "audit"] == SAID
    assert in_log[in_log.index("workflow_complete") - 1] == "audit"  # it was published before, and is not lost
    asyncio.run(hub.aclose())


def test_redact_may_wait_for_somebody_who_writes() -> None:
    entered, saved = threading.Event(), threading.Event()

    def redact(type: str, data: Any) -> Any:
        if type == "workflow_complete":
            entered.set()
            assert saved.wait(PATIENCE / 2)
        return data

    def write() -> None:
        entered.wait()
        hub.emit(E, "saved")
        saved.set()

    hub = StreamHub(redact=redact)
    hub.open(E)
    writing = threading.Thread(target=write)
    writing.start()
    asyncio.run(hub.close(E))
    writing.join()
    assert types(asyncio.run(written(hub))) == ["workflow_start", "saved", "workflow_complete"]
    asyncio.run(hub.aclose())


def test_a_result_may_say_something_when_it_is_shown() -> None:
    class Result:
        def __repr__(self) -> str:
            hub.emit(E, "shown")
            return "42"

    hub = StreamHub()
    hub.open(E)
    assert done_soon(lambda: asyncio.run(hub.close(E, Result())))
    assert types(asyncio.run(written(hub))) == ["workflow_start", "shown", "workflow_complete"]
    asyncio.run(hub.aclose())


@pytest.mark.parametrize("joins", [True, False])
async def test_a_run_goes_on_for_who_joins_it_while_its_end_is_being_redacted(joins: bool) -> None:
    def redact(type: str, data: Any) -> Any:
        if type == "workflow_complete" and joins:
            hub.runs.join_run(E)
        return data

    hub = StreamHub(redact=redact)
    run_id = hub.runs.join_run(E)
    hub.runs.leave_run(E, run_id, RunOutcome("workflow_complete", {}))
    assert hub.registry.is_running(E) is joins
    await hub.aclose()


async def test_of_two_who_open_a_run_at_once_one_begins_it() -> None:
    """The other one has prepared its own opening, which is not published."""
    opened: list[str] = []

    def redact(type: str, data: Any) -> Any:
        if type == "workflow_start" and not opened:
            opened.append("")
            opened[0] = hub.open(E)
        return data

    hub = StreamHub(redact=redact)
    assert hub.open(E) == opened[0]
    assert [update.data["run_id"] for update in await written(hub)] == opened
    assert hub.statistics().running == 1
    await hub.aclose()


def test_of_two_answers_at_once_the_first_is_published() -> None:
    """The second comes while the first is being redacted, and is there before it."""

    def redact(type: str, data: Any) -> Any:
        if type == "human_response" and data["response"] == "slow":
            answering = threading.Thread(target=lambda: asyncio.run(hub.respond(E, "p", "quick")))
            answering.start()
            answering.join()
        return data

    hub = StreamHub(redact=redact)
    hub.emit(E, "human_prompt", {"prompt_id": "p", "prompt": "?"})
    with pytest.raises(PromptError):
        asyncio.run(hub.respond(E, "p", "slow"))
    answers = [update.data["response"] for update in asyncio.run(written(hub)) if update.type == "human_response"]
    assert answers == ["quick"]
    asyncio.run(hub.aclose())


def test_what_a_run_says_is_redacted_once() -> None:
    hub = StreamHub(redact=lambda _, data: {"times": data.get("times", 0) + 1})
    hub.open(E)
    asyncio.run(hub.close(E, 1))
    assert [update.data for update in asyncio.run(written(hub))] == [{"times": 1}] * 2
    asyncio.run(hub.aclose())
