"""Log records as updates about an agent."""

import asyncio
import logging
import threading
from typing import Any

import pytest

from lg_streaming.activity import AgentStream
from lg_streaming.hub import StreamHub
from lg_streaming.settings import LimitSettings, StreamingSettings
from tests.activity.reading import read, said, types


@pytest.fixture
def logger() -> logging.Logger:
    """Return a logger without parents: other handlers of a record are not tested here."""
    return logging.Logger("tests.activity.agent", 1)  # noqa: LOG001 (one that getLogger() gives has others above it)


@pytest.mark.row("CFLOW-22")
async def test_each_level_has_its_type(hub: StreamHub, logger: logging.Logger) -> None:
    agent = AgentStream(hub.emitter("e"), "a1")
    logger.addHandler(agent.log_handler())
    for level in (5, logging.DEBUG, logging.INFO, 25, logging.WARNING, logging.ERROR, logging.CRITICAL, 60):
        logger.log(level, "at %d", level)
    _, *updates = await read(hub)
    assert [(update.type.rpartition(":")[2], update.data["message"]) for update in updates] == [
        ("debug", "at 5"),
        ("debug", "at 10"),
        ("info", "at 20"),
        ("info", "at 25"),
        ("warn", "at 30"),
        ("error", "at 40"),
        ("fatal", "at 50"),
        ("fatal", "at 60"),
    ]
    assert updates[0].data["logger"] == "tests.activity.agent"


async def test_a_handler_has_a_level_of_its_own(hub: StreamHub, logger: logging.Logger) -> None:
    agent = AgentStream(hub.emitter("e"), "a1")
    logger.addHandler(agent.log_handler(logging.WARNING))
    logger.info("no")
    logger.warning("yes")
    assert types(await read(hub)) == ["agent:spawned", "agent:log:warn"]


@pytest.mark.parametrize("debug", [False, True])
async def test_an_exception_leaves_only_in_debug_mode(logger: logging.Logger, debug: bool) -> None:
    hub = StreamHub(StreamingSettings(debug=debug))
    agent = AgentStream(hub.emitter("e"), "a1")
    logger.addHandler(agent.log_handler())
    try:
        raise ValueError("secret")
    except ValueError:
        logger.exception("it failed")
    (data,) = said(await read(hub), "agent:log:error")
    assert data["message"] == "it failed"
    assert ("secret" in str(data)) is debug
    if debug:
        assert data["exception"]["type"] == "ValueError"
        assert "Traceback" in data["exception"]["stack"]
    await hub.aclose()


async def test_the_librarys_own_records_are_passed_over(hub: StreamHub) -> None:
    agent = AgentStream(hub.emitter("e"), "a1")
    agent.spawned()
    root, handler = logging.getLogger(), agent.log_handler()
    root.addHandler(handler)
    try:
        logging.getLogger("lg_streaming.hub").warning("own")
        logging.getLogger("lg_streaming").warning("own")
        logging.getLogger("lg_streaming_of_mine").warning("mine")
    finally:
        root.removeHandler(handler)
    assert [data["message"] for data in said(await read(hub), "agent:log:warn")] == ["mine"]


async def test_a_record_that_comes_of_saying_a_record_is_passed_over(logger: logging.Logger) -> None:
    def redact(type: str, data: Any) -> Any:
        if type.startswith("agent:log"):
            logger.warning("redacting")
        return data

    hub = StreamHub(redact=redact)
    agent = AgentStream(hub.emitter("e"), "a1")
    logger.addHandler(agent.log_handler())
    logger.info("one")
    logger.info("two")
    _, *updates = await read(hub)
    assert [(update.type, update.data["message"]) for update in updates] == [
        ("agent:log:info", "one"),
        ("agent:log:info", "two"),
    ]
    assert hub.statistics().callable_errors == 0
    await hub.aclose()


class Unshowable:
    def __str__(self) -> str:
        raise RuntimeError("cannot be shown")

    __repr__ = __str__


async def test_whatever_is_logged_nothing_raises(logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    hub = StreamHub(StreamingSettings(limits=LimitSettings(update_bytes=1_024)))
    agent = AgentStream(hub.emitter("e"), "a1")
    logger.addHandler(agent.log_handler())
    logger.info("%d", "no number")
    logger.info(Unshowable())
    logger.info("x" * 2_000)
    logger.info("small")
    assert hub.statistics().callable_errors == 2
    agent.stopped()
    logger.info("late")
    assert [data["message"] for data in said(await read(hub), "agent:log:info")] == ["%d", "small"]
    await hub.aclose()
    logger.info("after the hub")
    assert capsys.readouterr().err == ""


def test_who_logs_and_who_writes_about_the_agent_never_wait_for_each_other(logger: logging.Logger) -> None:
    """One thread is in the agent and logs (here: what is written does, when it is shown); another one only logs."""
    inside, logged = threading.Event(), threading.Event()

    class Shown:
        def __repr__(self) -> str:
            inside.set()
            logged.wait(1)
            logger.info("from inside")
            return "shown"

    class Late(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            if record.getMessage() == "from outside":
                inside.wait(10)
            return True

    hub = StreamHub()
    agent = AgentStream(hub.emitter("e"), "a1")
    handler = agent.log_handler()
    handler.addFilter(Late())
    logger.addHandler(handler)
    write = threading.Thread(target=lambda: agent.log("info", "told", {"what": Shown()}), daemon=True)
    log = threading.Thread(target=lambda: logger.info("from outside"), daemon=True)
    log.start()
    write.start()
    for thread in (write, log):
        thread.join(10)
        assert not thread.is_alive(), "each waits for the other"
    messages = [data["message"] for data in said(asyncio.run(read(hub)), "agent:log:info")]
    assert sorted(messages) == ["from inside", "from outside", "told"]
