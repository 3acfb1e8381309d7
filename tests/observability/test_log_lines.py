"""One record is one line, and no text of a stranger reaches a log as a control code."""

from __future__ import annotations

import ast
import io
import json
import logging
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lg_streaming
from lg_streaming import StreamHub, StreamingSettings
from lg_streaming.escaping import LineFormatter, OneLineFilter
from lg_streaming.events import StreamMetadata, StreamUpdate
from lg_streaming.observability.logs import JsonFormatter, log_event
from lg_streaming.sinks import LoggingSink
from tests.demo.test_control_codes import CODES, is_hidden

HOSTILE = "\n".join(CODES) + "\nERROR root: forged"
PACKAGE = Path(lg_streaming.__file__).parent


@contextmanager
def written(logger: str, formatter: logging.Formatter | None = None) -> Generator[io.StringIO]:
    """Lines of the application's only, plain handler: pytest's report cannot hold half characters."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter or logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    named = logging.getLogger(logger)
    before = [(each, each.level, each.propagate, each.handlers[:]) for each in way_up(named)]
    for each in way_up(named):
        each.handlers[:] = []
        each.propagate = True  # undo the configuration of an earlier test
    logging.getLogger().handlers[:] = [handler]
    named.setLevel(logging.DEBUG)
    try:
        yield out
    finally:
        for each, level, propagate, handlers in before:
            each.setLevel(level)
            each.propagate, each.handlers[:] = propagate, handlers


def way_up(logger: logging.Logger | None) -> Generator[logging.Logger]:
    """A logger and all above it, whose handlers see its records."""
    while logger is not None:
        yield logger
        logger = logger.parent


def hidden(text: str) -> list[str]:
    return [hex(ord(letter)) for letter in text if is_hidden(letter)]


def loggers_in_source() -> set[str]:
    """The names of all loggers that the source of the package makes."""
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        module = ".".join(["lg_streaming", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "getLogger"
                and node.args
            ):
                try:
                    name = eval(ast.unparse(node.args[0]), {"__name__": module})
                except NameError:  # of an argument: the application's own
                    continue
                found.add(name)
    return found


def test_every_logger_of_the_library_keeps_to_one_line() -> None:
    names = loggers_in_source()
    assert {"lg_streaming.updates", "lg_streaming.codec", "lg_streaming.gateway.hooks.engineio.packets"} <= names
    unguarded = [
        name
        for name in sorted(names)
        if name.startswith("lg_streaming")
        and not any(isinstance(each, OneLineFilter) for each in logging.getLogger(name).filters)
    ]
    assert unguarded == [], "guard_loggers() does not know these"


@pytest.mark.parametrize(
    "name", ["lg_streaming.gateway.auth.policy", "lg_streaming.hub.attachment", "lg_streaming.client"]
)
def test_a_record_of_the_library_is_one_line(name: str) -> None:
    with written(name) as out:
        logging.getLogger(name).warning("refused: %s", HOSTILE)
        logging.getLogger(name).warning(HOSTILE)
    assert len(out.getvalue().splitlines()) == 2
    assert hidden(out.getvalue()) == []


@given(st.text(st.characters(codec=None, max_codepoint=0x10FFFF), max_size=30))
def test_whatever_is_logged_is_one_line(text: str) -> None:
    with written("lg_streaming.codec") as out:
        logging.getLogger("lg_streaming.codec").warning("%s", text)
    assert out.getvalue().count("\n") == 1
    assert hidden(out.getvalue()) == []


def test_a_clean_record_keeps_its_template(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("lg_streaming.codec").warning("%s of %d", "one", 2)
    assert (caplog.records[0].msg, caplog.records[0].args) == ("%s of %d", ("one", 2))


@pytest.mark.parametrize("formatter", [None, LineFormatter("%(levelname)s %(message)s")], ids=["any", "serve's"])
def test_a_traceback_forges_no_record(formatter: logging.Formatter | None) -> None:
    with written("lg_streaming.codec", formatter) as out:
        try:
            raise ValueError(HOSTILE)
        except ValueError:
            logging.getLogger("lg_streaming.codec").exception("it failed")
    first, *rest = out.getvalue().rstrip("\n").split("\n")
    assert first.endswith("it failed")
    assert "  Traceback (most recent call last):" in rest
    assert all(line.startswith("  ") for line in rest)
    assert hidden(out.getvalue()) == []


def test_json_lines_are_ascii_without_codes() -> None:
    with written("some.application", JsonFormatter()) as out:
        log_event(
            logging.getLogger("some.application"), logging.WARNING, "odd", subject=HOSTILE, reason="\x7f\x85\u2028"
        )
        try:
            raise ValueError(HOSTILE)
        except ValueError:
            logging.getLogger("some.application").exception("%s", HOSTILE)
    event, failure = out.getvalue().splitlines()
    assert out.getvalue().isascii()
    assert hidden(out.getvalue()) == []
    assert json.loads(event)["subject"].endswith("ERROR root: forged")
    assert json.loads(event)["reason"] == "\x7f\x85\u2028"
    assert json.loads(failure)["message"] == HOSTILE


def test_serve_writes_records_of_any_logger_as_one_line() -> None:
    with written("uvicorn.error", LineFormatter("%(levelname)s %(name)s: %(message)s")) as out:
        logging.getLogger("uvicorn.error").warning("%s", HOSTILE)
    assert len(out.getvalue().splitlines()) == 1
    assert hidden(out.getvalue()) == []


async def test_a_published_update_is_one_line() -> None:
    with written("lg_streaming.updates") as out:
        hub = StreamHub(StreamingSettings(log_events=True))
        hub.publish("e", HOSTILE, {HOSTILE: [HOSTILE]})
        hub.publish("e", "note", "\x7f\x85\u2028\u202e")
        await hub.aclose()
    assert len(out.getvalue().splitlines()) == 3  # with workflow_start
    assert hidden(out.getvalue()) == []
    assert "note" in out.getvalue()


@pytest.mark.parametrize("name", ["lg_streaming.updates", "shop.audit"])
async def test_a_logging_sink_writes_one_line_to_any_logger(name: str) -> None:
    about = StreamMetadata(timestamp=datetime.now(UTC), execution_id="e", sequence_number=1, epoch="k")
    sink = LoggingSink(name)
    with written(name) as out:
        await sink.send([StreamUpdate(type=HOSTILE, data={"x": HOSTILE, "y": "\x9b\x7f"}, metadata=about)])
        await sink.aclose()
    assert len(out.getvalue().splitlines()) == 1
    assert hidden(out.getvalue()) == []
