"""A `redact` that raises hides: nothing of what it was given is in an update, a log record, an error or a sink."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lg_streaming import StreamingModule, StreamingSettings, stream_event
from lg_streaming.errors import UpdateTooLargeError
from lg_streaming.hub import StreamHub
from lg_streaming.sinks import JsonLinesSink, LoggingSink
from tests.capture.graphs import State, Update, graph_of, read
from tests.hub.helpers import collect, soon

SECRET = "hunter2-4111-1111"


class OddError(BaseException):
    """Holds what it was given, as some errors do."""

    def __init__(self, data: Any) -> None:
        super().__init__(data)
        self.data, self.code = data, str(data)


def by_message(type: str, data: Any) -> Any:
    raise ValueError(f"cannot redact {data!r}")


def by_chain(type: str, data: Any) -> Any:
    try:
        raise KeyError(str(data))
    except KeyError as error:
        raise RuntimeError("no") from error


def by_odd_error(type: str, data: Any) -> Any:
    raise OddError(data)


def by_a_group(type: str, data: Any) -> Any:
    raise ExceptionGroup(str(data), [ValueError(data)])


def by_cancelling(type: str, data: Any) -> Any:
    raise asyncio.CancelledError(str(data))


def by_a_repr(type: str, data: Any) -> Any:
    int(str(data))


FAILING = [by_message, by_chain, by_odd_error, by_a_group, by_cancelling, by_a_repr]


@pytest.fixture(params=FAILING)
def failing(request: pytest.FixtureRequest) -> Callable[[str, Any], Any]:
    """A redact that raises an error which holds the data, where there is a secret in it."""

    def redact(type: str, data: Any) -> Any:
        return request.param(type, data) if SECRET in str(data) else data

    return redact


def assert_hidden(caplog: pytest.LogCaptureFixture, *others: object) -> None:
    formatter = logging.Formatter()
    for record in caplog.records:
        assert SECRET not in formatter.format(record)
        assert SECRET not in repr((record.args, record.exc_info, record.exc_text, vars(record)))
    assert SECRET not in repr(others)


async def test_in_updates_sinks_and_logs(
    failing: Callable[[str, Any], Any], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    hub = StreamHub(StreamingSettings(log_events=True), redact=failing)
    hub.attach("e", JsonLinesSink(tmp_path / "x.jsonl"))
    hub.attach("e", LoggingSink())
    hub.publish("e", "note", {"text": SECRET})
    hub.publish("e", "node_error", {"node_id": "n", "error": {"message": SECRET}})
    hub.publish("e", "human_prompt", {"prompt_id": "p", "prompt": SECRET, "type": "input"})
    hub.emitter("e").token(f"token {SECRET}")
    await hub.fail("e", ValueError(SECRET))
    updates = await collect(hub.subscribe("e"))
    assert [update.data for update in updates[1:]] == [{"message": "withheld: redaction failed"}] * 5
    await soon(hub.aclose())
    assert "withheld" in (tmp_path / "x.jsonl").read_text()
    assert_hidden(caplog, updates, (tmp_path / "x.jsonl").read_text())
    said = [record for record in caplog.records if "redact raised" in record.getMessage()]
    assert len(said) == 5
    assert "test_failing_redact.py:" in said[0].getMessage(), "it says where"


async def test_in_an_error_about_the_size(failing: Callable[[str, Any], Any], caplog: pytest.LogCaptureFixture) -> None:
    hub = StreamHub(
        StreamingSettings.model_validate({"limits": {"update_bytes": 1_024, "large_updates": "refuse"}}), redact=failing
    )
    hub.publish("e", "note", {"text": SECRET * 1_000})
    with pytest.raises(UpdateTooLargeError) as raised:
        hub.publish("e", "note", {"text": "x" * 5_000})
    await hub.close("e")
    updates = await collect(hub.subscribe("e"))
    assert updates[1].data == {"message": "withheld: redaction failed"}
    assert_hidden(caplog, updates, traceback.format_exception(raised.value))
    await hub.aclose()


async def test_in_a_nodes_option(failing: Callable[[str, Any], Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    @stream_event(redact=failing, include_state=True)
    def node(state: State) -> Update:
        return {"text": f"{SECRET}"}

    async with StreamingModule() as streaming:
        await graph_of(node, names=("node",)).ainvoke({"topic": SECRET}, streaming.config(execution_id="e"))
        run = await read(streaming, "e")
    assert "withheld" in str(run.one("node_complete").data)
    errors = run.of("error")
    assert [error.data["option"] for error in errors] == ["redact", "redact"]
    assert errors[0].data["message"] == "redact failed: the data is withheld"
    within = [update.data for update in run.updates if not update.type.startswith("workflow_")]
    assert_hidden(caplog, within)


async def test_in_what_the_caller_of_publish_sees_when_the_program_is_interrupted() -> None:
    def redact(type: str, data: Any) -> Any:
        if type == "note":
            raise KeyboardInterrupt

    hub = StreamHub(redact=redact)
    with pytest.raises(KeyboardInterrupt):
        hub.publish("e", "note", SECRET)
    hub.publish("e", "other", SECRET)
    await hub.close("e")
    types = [update.type for update in await collect(hub.subscribe("e"))]
    assert types == ["workflow_start", "other", "workflow_complete"]
    await hub.aclose()
