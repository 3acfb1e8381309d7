"""Every word of an emitter: what it writes, about what, and that the payload is the one that is described."""

import asyncio
import threading
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lg_streaming import StreamHub, StreamingModule, StreamingSettings, StreamUpdate, current_emitter, stream_token
from lg_streaming.emitter import NO_EMITTER, Emitter
from lg_streaming.errors import BadRequestError, ExecutionNotFoundError, PromptError, UpdateTooLargeError
from lg_streaming.payloads import PAYLOADS
from lg_streaming.settings import LimitSettings
from tests.hub.helpers import collect, types

Write = Callable[[Emitter], object]


async def said(*calls: Write, finish: bool = True) -> list[StreamUpdate]:
    """Return the published updates without the start and the end of the run."""
    hub = StreamHub()
    emitter = hub.emitter("e")
    for call in calls:
        call(emitter)
    if finish:
        await hub.close("e")
    got = await collect(hub.subscribe("e"))
    await hub.aclose()
    return [update for update in got if not update.type.startswith("workflow_") or update.type == "workflow_progress"]


def without_times(data: Any) -> Any:
    """`data` without what differs from run to run."""
    if isinstance(data, dict):
        return {name: value for name, value in data.items() if name != "duration_s"}  # pyright: ignore[reportUnknownVariableType]
    return data


WORDS: dict[str, tuple[Write, str, Any]] = {
    "token": (lambda e: e.token("Hel"), "token", {"content": "Hel", "index": 0, "role": "ai"}),
    "thinking": (lambda e: e.thinking("hm"), "thinking", {"content": "hm", "index": 0}),
    "message": (
        lambda e: e.message("Hello", created_at="2026-11-20T20:00:00Z", item={"id": 7}),
        "message",
        {"role": "ai", "content": "Hello", "created_at": "2026-11-20T20:00:00Z", "item": {"id": 7}},
    ),
    "start": (lambda e: e.start("m-1", message_id="a", temperature=0), "llm_start", {"model": "m-1", "temperature": 0}),
    "error": (
        lambda e: e.error(ValueError("no"), code="bad_input"),
        "error",
        {"message": "no", "type": "ValueError", "code": "bad_input"},
    ),
    "node_start": (
        lambda e: e.node_start("write", name="Write it", attempt=2, kind="llm"),
        "node_start",
        {"node_id": "write", "node_name": "Write it", "attempt": 2, "kind": "llm"},
    ),
    "node_complete": (
        lambda e: e.node_complete({"n": 1}, node_id="write"),
        "node_complete",
        {"node_id": "write", "node_name": "write", "result": {"n": 1}},
    ),
    "node_error": (
        lambda e: e.node_error("no", node_id="write"),
        "node_error",
        {"node_id": "write", "node_name": "write", "error": {"message": "no"}},
    ),
    "tool_start": (
        lambda e: e.tool_start("search", {"q": "x"}, tool_call_id="c"),
        "tool_start",
        {"tool": "search", "tool_call_id": "c", "input": {"q": "x"}},
    ),
    "tool_complete": (
        lambda e: e.tool_complete(["x"], tool="search"),
        "tool_complete",
        {"tool": "search", "output": ["x"]},
    ),
    "tool_error": (
        lambda e: e.tool_error(OSError("down"), tool="search", tool_call_id="c"),
        "tool_error",
        {"tool": "search", "tool_call_id": "c", "error": {"message": "down", "type": "OSError"}},
    ),
    "progress": (
        lambda e: e.progress(1, 4, text="a quarter", eta_s=3.0),
        "progress",
        {"progress": 25.0, "current": 1, "total": 4, "status": "running", "text": "a quarter", "eta_s": 3.0},
    ),
    "milestone": (lambda e: e.milestone(50), "milestone", {"milestone": 50, "progress": 50}),
    "milestone with a name": (
        lambda e: e.milestone("half", 50.0),
        "milestone",
        {"milestone": "half", "progress": 50.0},
    ),
    "workflow_progress": (
        lambda e: e.workflow_progress(1, 3, current_node="write", current_node_name="Write it", eta_s=9.5),
        "workflow_progress",
        {
            "total_nodes": 3,
            "completed_nodes": 1,
            "current_node": "write",
            "current_node_name": "Write it",
            "progress": 33.3,
            "eta_s": 9.5,
        },
    ),
    "source_documents": (lambda e: e.source_documents([{"page": 1}]), "source_documents", [{"page": 1}]),
    "used_tools": (lambda e: e.used_tools(({"tool": "search"},)), "used_tools", [{"tool": "search"}]),
    "artifacts": (lambda e: e.artifacts(["a.png"]), "artifacts", ["a.png"]),
    "metadata": (lambda e: e.metadata(chat_id="7"), "metadata", {"chat_id": "7"}),
    "usage": (
        lambda e: e.usage(10, 5, model="m-1", cost=0.01),
        "usage",
        {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15, "model": "m-1", "cost": 0.01},
    ),
    "status": (lambda e: e.status("searching", engine="x"), "status", {"status": "searching", "engine": "x"}),
    "log": (
        lambda e: e.log("warning", "slow", {"ms": 9}),
        "log",
        {"level": "warning", "message": "slow", "context": {"ms": 9}},
    ),
    "custom": (lambda e: e.custom("note", [1]), "custom", {"name": "note", "data": [1]}),
    "human_prompt": (
        lambda e: e.human_prompt("Go on?", type="choice", choices=["yes", "no"], timeout_s=60, prompt_id="p"),
        "human_prompt",
        {"prompt_id": "p", "prompt": "Go on?", "type": "choice", "choices": ["yes", "no"], "timeout_s": 60},
    ),
    "human_response": (
        lambda e: e.human_response("p", "yes"),
        "human_response",
        {"prompt_id": "p", "response": "yes"},
    ),
}


@pytest.mark.row("FLOW-25")
@pytest.mark.row("FLOW-28")
@pytest.mark.row("FLOW-29")
@pytest.mark.row("FLOW-30")
@pytest.mark.row("FLOW-31")
@pytest.mark.row("FLOW-32")
@pytest.mark.row("FLOW-33")
@pytest.mark.row("FLOW-35")
@pytest.mark.row("FLOW-36")
@pytest.mark.row("FLOW-37")
@pytest.mark.row("PYEV-02")
@pytest.mark.row("PYEV-18")
@pytest.mark.row("HIVE-78")
@pytest.mark.parametrize(("write", "type", "data"), WORDS.values(), ids=WORDS.keys())
async def test_a_word_writes_one_update_as_described(write: Write, type: str, data: Any) -> None:
    (update,) = await said(write)
    assert (update.type, without_times(update.data)) == (type, data)
    if type in PAYLOADS:
        read = PAYLOADS[type].model_validate(update.data)
        assert read.model_dump(exclude_unset=True) == update.data


def test_every_word_is_in_the_table() -> None:
    public = {name for name in vars(Emitter) if not name.startswith("_")}
    ends_or_reads = {"end", "tokens", "workflow_start", "workflow_complete", "workflow_error"}
    assert public - ends_or_reads <= {name.split()[0] for name in WORDS}


async def test_outside_of_a_node_every_word_is_a_no_op() -> None:
    assert current_emitter() is NO_EMITTER
    for write, _, _ in WORDS.values():
        write(NO_EMITTER)
    with NO_EMITTER as emitter:
        emitter.workflow_start("x")
        emitter.end()
        emitter.node_start()
        emitter.workflow_complete()


# --- parts that begin and end -------------------------------------------------------------------------------


@pytest.mark.row("FLOW-24")
@pytest.mark.row("FLOW-26")
async def test_the_text_between_start_and_end_is_one_message() -> None:
    def write(emitter: Emitter) -> None:
        first = emitter.start("m-1")
        emitter.token("Hel")
        emitter.token("lo")
        second = emitter.start()  # ends the first
        emitter.token("!")
        emitter.end(finish_reason="stop")
        emitter.end()
        assert first != second
        emitter.token("beside")

    got = await said(write)
    assert [update.type for update in got] == [
        "llm_start", "token", "token", "llm_complete", "llm_start", "token", "llm_complete", "token",
    ]  # fmt: skip
    ids = [update.metadata.message_id for update in got]
    assert ids[0] == ids[3] is not None
    assert len({*ids[:4]}) == len({*ids[4:7]}) == 1
    assert ids[7] is None
    assert [update.data["index"] for update in got if update.type == "token"] == [0, 1, 0, 1]
    assert got[3].data["duration_s"] >= 0
    assert got[6].data["finish_reason"] == "stop"


async def test_what_a_node_or_a_tool_writes_is_about_it() -> None:
    def write(emitter: Emitter) -> None:
        node = emitter.node_start("write", attempt=2)
        node.token("a")
        one = node.tool_start("search", {"q": 1})
        two = node.tool_start("search", {"q": 2})
        one.status("searching")
        two.tool_complete("second")
        one.tool_error("first failed")
        node.node_complete("done")
        emitter.token("b")

    got = await said(write)
    assert [(update.type, update.metadata.node_id) for update in got] == [
        ("node_start", "write"),
        ("token", "write"),
        ("tool_start", "write"),
        ("tool_start", "write"),
        ("status", "write"),
        ("tool_complete", "write"),
        ("tool_error", "write"),
        ("node_complete", "write"),
        ("token", None),
    ]
    calls = [update.metadata.tool_call_id for update in got]
    assert calls[2] == calls[4] == calls[6] == got[2].data["tool_call_id"] == got[6].data["tool_call_id"]
    assert calls[3] == calls[5] != calls[2]
    assert {update.metadata.attempt for update in got[:-1]} == {2}
    assert all("duration_s" in update.data for update in got[5:8])


async def test_details_go_along_and_replace_nothing() -> None:
    def write(emitter: Emitter) -> None:
        node = emitter.node_start("write", node_name="forged", kind="llm")
        node.node_complete("done", duration_s="forged", node_id="write", rows=3)
        emitter.usage(1, 2, total="x")
        emitter.tool_start("search", type="mcp").tool_complete(1, details={"a": 1}, fields=2, scope=3)

    started, done, used, tool, answered = [update.data for update in await said(write)]
    assert started == {"node_id": "write", "node_name": "write", "kind": "llm"}
    assert (done["rows"], done["duration_s"] == "forged") == (3, False)
    assert used == {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3, "total": "x"}
    assert tool["type"] == "mcp"
    assert (answered["details"], answered["fields"], answered["scope"]) == ({"a": 1}, 2, 3)


async def test_without_an_id_the_newest_open_part_is_meant() -> None:
    def write(emitter: Emitter) -> None:
        emitter.tool_start("search", tool_call_id="a")
        emitter.tool_start("fetch", tool_call_id="b")
        emitter.tool_complete(1, tool="search")
        emitter.tool_complete(2)
        emitter.node_start("x")
        emitter.node_start("y")
        emitter.node_complete()
        emitter.node_error("no")

    got = [update.data for update in await said(write)]
    assert [(each.get("tool_call_id"), each.get("tool")) for each in got[2:4]] == [("a", "search"), ("b", "fetch")]
    assert [each["node_id"] for each in got[6:]] == ["y", "x"]


NAMELESS: list[Write] = [
    lambda e: e.node_start(),
    lambda e: e.node_complete(),
    lambda e: e.node_error("x"),
    lambda e: e.tool_complete(1),
    lambda e: e.tool_error("x"),
]


@pytest.mark.parametrize("call", NAMELESS)
async def test_a_part_that_nobody_can_know_is_refused(call: Write) -> None:
    hub = StreamHub()
    with pytest.raises(BadRequestError, match="name the"):
        call(hub.emitter("e"))
    assert hub.statistics().published == 0
    await hub.aclose()


# --- as a context manager -----------------------------------------------------------------------------------


async def in_block(write: Callable[[Emitter], object], *, error: BaseException | None = None) -> list[StreamUpdate]:
    hub = StreamHub()

    async def block() -> None:
        async with hub.emitter("e") as emitter:
            write(emitter)
            if error is not None:
                raise error

    (raised,) = await asyncio.gather(block(), return_exceptions=True)
    assert type(raised) is type(error)
    got = await collect(hub.subscribe("e"))
    await hub.aclose()
    return got


def open_three(emitter: Emitter) -> None:
    node = emitter.node_start("write")
    node.tool_start("search", tool_call_id="c")
    emitter.start("m-1")
    emitter.token("x")


async def test_a_block_closes_what_it_opened_and_ends_the_run_it_began() -> None:
    got = await in_block(open_three)
    assert [update.type for update in got] == [
        "workflow_start", "node_start", "tool_start", "llm_start", "token",
        "llm_complete", "tool_complete", "node_complete", "workflow_complete",
    ]  # fmt: skip


async def test_with_an_exception_open_parts_are_closed_before_the_error() -> None:
    got = await in_block(open_three, error=ValueError("no"))
    assert [update.type for update in got][5:] == ["llm_error", "tool_error", "node_error", "workflow_error"]
    assert {update.data["error"]["message"] for update in got[5:]} == {"no"}
    assert all("stack" not in update.data["error"] for update in got[5:])


async def test_what_is_cancelled_says_so() -> None:
    got = await in_block(open_three, error=asyncio.CancelledError())
    assert [update.type for update in got][5:] == ["llm_error", "tool_error", "node_error", "workflow_cancelled"]
    assert got[-2].data["error"]["code"] == "cancelled"


async def test_what_cannot_be_said_does_not_hide_the_exception_of_the_block(caplog: pytest.LogCaptureFixture) -> None:
    hub = StreamHub()

    async def block() -> None:
        with hub.emitter("e") as emitter:
            emitter.node_start("write")
            await hub.aclose()
            raise ValueError("no")

    with pytest.raises(ValueError, match="no") as caught:
        await block()
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert [record.exc_info for record in caplog.records] == [None]
    assert "was refused: the hub" in caplog.text
    assert hub.statistics().dropped["closed"] == 2


async def test_an_error_of_any_size_is_told_as_far_as_it_can_be() -> None:
    got = await in_block(open_three, error=ValueError("x" * 300_000))
    assert [update.type for update in got][5:] == ["llm_error", "tool_error", "node_error", "workflow_error"]
    assert {(len(update.data["error"]["message"]), update.data["error"]["message"][-2:]) for update in got[5:]} == {
        (8_000, "x…")
    }


async def test_a_result_too_large_to_send_does_not_keep_the_run_from_ending() -> None:
    hub = StreamHub()
    hub.emitter("e").status("begun")
    hub.emitter("e").workflow_error("x" * 300_000)
    with hub.emitter("f") as emitter:
        emitter.workflow_complete("x" * 300_000)
    (*_, failed), (*_, complete) = await collect(hub.subscribe("e")), await collect(hub.subscribe("f"))
    assert (failed.type, len(failed.data["error"]["message"])) == ("workflow_error", 8_000)
    assert (complete.type, complete.data["truncated"]) == ("workflow_complete", {"result": 300_002})
    assert set(complete.data["result"]) == {"x"}
    await hub.aclose()


async def test_what_is_no_part_of_a_scope_is_refused_and_in_a_node_passed_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hub = StreamHub()
    for call in (hub.emitter, hub.emitter("e").scoped):
        for wrong in ("nodeid", "run_id"):
            with pytest.raises(BadRequestError, match=f"{wrong} cannot be set.*node_id.*extra="):
                call(**cast("dict[str, Any]", {wrong: "x"}))
    Emitter(hub.publisher, "e", strict=False).scoped(nodeid="x").status("goes on")
    assert "nodeid cannot be set" in caplog.text
    assert hub.statistics().published == 2
    await hub.aclose()


async def test_a_prompt_of_no_known_type_is_refused() -> None:
    hub = StreamHub()
    unknown: Any = "nonsense"
    with pytest.raises(BadRequestError, match="approval, input, choice, confirmation"):
        hub.emitter("e").human_prompt("?", type=unknown)
    await hub.aclose()


@pytest.mark.parametrize("how", ["open", "block"])
@pytest.mark.row("FLOW-20", "FLOW-D10")
async def test_a_run_that_others_began_goes_on(how: str) -> None:
    streaming = StreamingModule()
    hub = streaming.hub
    if how == "open":
        hub.open("e")
    else:
        block = streaming.execution("e")
        block.__enter__()
    with pytest.raises(ValueError, match="no"), hub.emitter("e") as emitter:  # noqa: PT012 (the block is what is tested)
        emitter.node_start("write")
        raise ValueError("no")
    assert hub.registry.is_running("e")
    with hub.emitter("e") as emitter:
        emitter.workflow_start("ignored")
        emitter.token("x")
        if how == "block":
            emitter.workflow_complete()  # the block still takes part
    assert hub.registry.is_running("e")
    if how == "block":
        block.__exit__(None, None, None)  # pyright: ignore[reportPossiblyUnboundVariable]
    else:
        hub.emitter("e").workflow_complete({"answer": 42})
    assert not hub.registry.is_running("e")
    got = await collect(hub.subscribe("e"))
    await streaming.aclose()
    assert [update.type for update in got] == [
        "workflow_start", "node_start", "node_error", "error", "token", "workflow_complete",
    ]  # fmt: skip
    assert got[3].data == {"message": "no", "type": "ValueError"}
    assert got[-1].data == ({"result": {"answer": 42}} if how == "open" else {})


@pytest.mark.row("FLOW-34")
async def test_a_workflow_has_a_name_a_result_and_one_start() -> None:
    hub = StreamHub()
    emitter = hub.emitter("e")
    assert not hub.registry.is_running("e"), "a handle alone opens nothing"
    emitter.workflow_start("import", metadata={"rows": 3})
    emitter.workflow_start("again")
    emitter.token("x")
    emitter.workflow_complete(["done"])
    emitter.token("late")
    emitter.workflow_start("second")
    emitter.workflow_error(ValueError("no"))
    both = await collect(hub.subscribe("e"))
    got, rest = both[:3], both[3:]
    assert [update.type for update in got] == ["workflow_start", "token", "workflow_complete"]
    assert (got[0].data["name"], got[0].data["metadata"]) == ("import", {"rows": 3})
    assert got[-1].data == {"result": ["done"]}
    assert [update.type for update in rest] == ["workflow_start", "workflow_error"]
    assert rest[0].data["name"] == "second"
    assert hub.statistics().dropped_late == 1
    await hub.aclose()


# --- which execution, which run -----------------------------------------------------------------------------


@pytest.mark.row("PYEV-01")
@pytest.mark.row("PYEV-03")
@pytest.mark.row("PYEV-05")
@pytest.mark.row("PYEV-08")
async def test_emit_says_one_thing_in_a_category_to_those_who_want_it() -> None:
    hub = StreamHub()
    hub.emit("doc-7", "saved", {"pages": 4}, category="document")
    hub.emit("doc-7", "log", {"level": "info", "message": "x"})
    hub.emit("user:1", "saved", {"pages": 1}, category="document")
    for execution_id in ("doc-7", "user:1"):
        await hub.close(execution_id)
    everything = await collect(hub.subscribe("doc-7"))
    assert [update.type for update in everything] == ["workflow_start", "saved", "log", "workflow_complete"]
    assert everything[1].metadata.category == "document"
    only = await collect(hub.subscribe("user:1", types=["saved"]))
    assert [update.data for update in only] == [{"pages": 1}]
    await hub.aclose()


@pytest.mark.row("FLOW-19")
@pytest.mark.row("AOS-16")
@pytest.mark.row("AOS-D7")
async def test_what_becomes_of_an_update_nobody_opened_a_run_for() -> None:
    hub = StreamHub()
    hub.emit("a", "note")
    hub.emit("b", "note", missing="drop")
    quiet = hub.emitter("b", missing="drop")
    quiet.token("x")
    with pytest.raises(ExecutionNotFoundError) as caught:
        hub.emit("c", "note", missing="raise")
    assert caught.value.execution_id == "c"
    assert [hub.registry.is_running(name) for name in "abc"] == [True, False, False]
    assert hub.statistics().dropped_late == 2
    hub.open("b")
    quiet.token("y")
    await hub.close("b")
    assert [each.data["content"] for each in await collect(hub.subscribe("b", types=["token"]))] == ["y"]
    await hub.aclose()


@pytest.mark.row("FLOW-21")
async def test_without_auto_open_a_run_has_to_be_open() -> None:
    hub = StreamHub(StreamingSettings(auto_open=False))
    for write in (lambda: hub.emitter("a").token("x"), lambda: hub.publish("a", "note"), lambda: hub.emit("a", "note")):
        with pytest.raises(ExecutionNotFoundError):
            write()
    hub.emit("a", "note", missing="open")
    assert hub.registry.is_running("a")
    with hub.emitter("b") as emitter:
        emitter.token("x")
    assert hub.statistics().published == 5
    await hub.aclose()


async def test_an_emitter_in_a_node_goes_on_with_the_node() -> None:
    streaming = StreamingModule()
    hub = streaming.hub

    @stream_token(flush_interval=10.0, first_token_immediately=False)
    async def write(_: Any) -> dict[str, Any]:
        current_emitter().token("held ")
        own = hub.emitter(category="own")
        assert own.execution_id == "e"
        own.token("too")
        with pytest.raises(BadRequestError):
            own.event("workflow_complete")
        own.status("now")
        hub.emitter("other").token("elsewhere")
        return {}

    async with streaming.execution("e"):
        await write({})
        hub.emitter().status("in the block")
    got = await collect(hub.subscribe("e", types=["token", "status"]))
    assert [update.type for update in got].index("status") == len(got) - 2, "what was held came first"
    assert "".join(update.data["content"] for update in got[:-2]) == "held too"
    assert {update.metadata.node_id for update in got if update.type == "token"} == {"write"}
    assert [update.metadata.category for update in got if update.type == "status"] == ["own", None]
    assert await collect(hub.subscribe("e", types=["node_error"])) == []
    with pytest.raises(BadRequestError, match="no execution is in force"):
        hub.emitter()
    await streaming.aclose()


@pytest.mark.row("FLOW-20")
@pytest.mark.row("FLOW-21")
@pytest.mark.row("FLOW-38")
async def test_an_emitter_is_active_until_its_run_ends_and_does_nothing_after() -> None:
    hub = StreamHub(StreamingSettings(auto_open=False))
    with pytest.raises(ExecutionNotFoundError):
        hub.emitter("e").token("nobody is there")
    hub.open("e")
    emitter = hub.emitter("e")
    assert (emitter.execution_id, emitter.active) == ("e", True)
    await hub.close("e")
    assert not emitter.active
    assert not NO_EMITTER.active
    emitter.token("late")
    emitter.workflow_complete()
    assert [update.type for update in await collect(hub.subscribe("e"))] == ["workflow_start", "workflow_complete"]
    await hub.aclose()


@pytest.mark.row("AOS-28")
@pytest.mark.row("PYEV-22")
async def test_the_text_as_it_grows_the_final_text_and_everything_are_three_views_of_one_order() -> None:
    hub = StreamHub()
    with hub.emitter("e") as emitter:
        emitter.status("running")
        emitter.start()
        emitter.token("Hi ")
        emitter.token("there, you fool")
        emitter.end()
        emitter.message("Hi there")
    raw = await collect(hub.subscribe("e", events=["token"]))
    final = await collect(hub.subscribe("e", types=["message"]))
    everything = await collect(hub.subscribe("e"))
    assert "".join(update.data["content"] for update in raw) == "Hi there, you fool"
    assert [update.data["content"] for update in final] == ["Hi there"]
    assert [update.type for update in everything] == [
        "workflow_start", "status", "llm_start", "token", "token", "llm_complete", "message", "workflow_complete",
    ]  # fmt: skip
    await hub.aclose()


@pytest.mark.row("PYEV-16")
def test_any_thread_may_write_with_no_loop_anywhere() -> None:
    hub = StreamHub()
    emitter = hub.emitter("e")
    barrier = threading.Barrier(8)

    def work(number: int) -> None:
        barrier.wait()
        for index in range(100):
            emitter.custom("n", [number, index])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    emitter.workflow_complete()

    async def read() -> list[StreamUpdate]:
        got = await collect(hub.subscribe("e"))
        await hub.aclose()
        return got

    got = asyncio.run(read())
    assert [update.metadata.sequence_number for update in got] == list(range(1, 803))
    assert len({update.metadata.run_id for update in got}) == 1
    for number in range(8):
        own = [update.data["data"][1] for update in got[1:-1] if update.data["data"][0] == number]
        assert own == list(range(100))


# --- humans -------------------------------------------------------------------------------------------------


async def test_a_prompt_is_open_until_it_is_answered_one_way_or_the_other() -> None:
    hub = StreamHub()
    answers: list[tuple[str, object]] = []
    hub.on_response("e", lambda prompt_id, response: answers.append((prompt_id, response)))
    emitter = hub.emitter("e", node_id="ask")
    first = emitter.human_prompt("Go on?", type="approval")
    second = emitter.human_prompt("And now?")
    await hub.respond("e", first, "yes")
    emitter.human_response(second, "by telephone")
    for prompt_id in (first, second):
        with pytest.raises(PromptError):
            await hub.respond("e", prompt_id, "too late")
    assert answers == [(first, "yes")]
    await hub.close("e")
    got = await collect(hub.subscribe("e", types=["human_response"]))
    assert [update.data["response"] for update in got] == ["yes", "by telephone"]
    await hub.aclose()


# --- whatever is opened is closed ---------------------------------------------------------------------------

PARTS = st.lists(
    st.tuples(st.sampled_from(["node", "tool", "llm"]), st.sampled_from(["start", "end"]), st.sampled_from("abc")),
    max_size=30,
)


@given(PARTS, st.booleans())
def test_in_a_block_every_part_that_begins_ends_once(steps: list[tuple[str, str, str]], fails: bool) -> None:
    async def run() -> list[StreamUpdate]:
        def write(emitter: Emitter) -> None:
            for kind, step, name in steps:
                if kind == "llm":
                    emitter.start(message_id=f"m{name}") if step == "start" else emitter.end()
                elif step == "start":
                    emitter.node_start(name) if kind == "node" else emitter.tool_start("t", tool_call_id=name)
                else:
                    emitter.node_complete(node_id=name) if kind == "node" else emitter.tool_complete(tool_call_id=name)

        return await in_block(write, error=ValueError("no") if fails else None)

    got = asyncio.run(run())
    open_parts: dict[tuple[str, str | None], int] = {}
    for update in got[1:-1]:
        kind, _, step = update.type.partition("_")
        about = update.metadata
        key = (kind, {"node": about.node_id, "tool": about.tool_call_id, "llm": about.message_id}[kind])
        if step == "start":
            open_parts[key] = 1
        else:
            open_parts.pop(key, None)
    assert open_parts == {}
    assert got[-1].type == ("workflow_error" if fails else "workflow_complete")


async def test_an_emitter_that_is_entered_again_closes_what_it_opened_at_the_last_exit() -> None:
    hub = StreamHub()
    emitter = hub.emitter("e")
    with emitter:
        with emitter:
            emitter.start("m")
        emitter.token("still open")
    assert types(await collect(hub.subscribe("e"))) == [
        "workflow_start",
        "llm_start",
        "token",
        "llm_complete",
        "workflow_complete",
    ]
    await hub.aclose()


async def test_of_blocks_side_by_side_the_last_one_ends_the_run() -> None:
    hub = StreamHub()
    emitter = hub.emitter("e")
    left = asyncio.Event()

    async def short() -> None:
        async with emitter:
            emitter.token("a")
        left.set()

    async def long() -> None:
        async with emitter:
            await left.wait()
            emitter.token("b")

    await asyncio.gather(long(), short())
    got = await collect(hub.subscribe("e"))
    assert types(got) == ["workflow_start", "token", "token", "workflow_complete"]
    assert hub.statistics().dropped_late == 0
    await hub.aclose()


async def test_a_part_whose_begin_is_refused_is_not_open() -> None:
    hub = StreamHub(StreamingSettings(limits=LimitSettings(update_bytes=1_500)))
    with hub.emitter("e") as emitter:
        for begin in (
            lambda: emitter.tool_start("search", "x" * 2_000),
            lambda: emitter.start("m", prompt="x" * 2_000),
            lambda: emitter.node_start("n", input="x" * 2_000),
        ):
            with pytest.raises(UpdateTooLargeError):
                begin()
        emitter.token("mine")
    got = await collect(hub.subscribe("e"))
    assert types(got) == ["workflow_start", "token", "workflow_complete"]
    assert got[1].metadata.message_id is None
    await hub.aclose()


NONSENSE: list[tuple[str, Callable[[Any], object]]] = [
    ("current and total are numbers, not None and 3", lambda it: it.progress(None, 3)),
    ("current and total are numbers, not 'a' and 3", lambda it: it.progress("a", 3)),
    ("completed_nodes and total_nodes are numbers, not 1 and None", lambda it: it.workflow_progress(1, None)),
    ("input_tokens is a whole number of tokens from 0 on, not None", lambda it: it.usage(None, 1)),
    ("a type is a string, not 5", lambda it: it.event(5)),
    ("a type is a string, not ['a']", lambda it: it.event(["a"])),
    ("a key is a string, not 5", lambda it: it.event("saved", key=5)),
]


@pytest.mark.parametrize(("message", "say"), NONSENSE)
async def test_what_makes_no_sense_is_refused_and_in_a_node_logged(
    message: str, say: Callable[[Any], object], caplog: pytest.LogCaptureFixture
) -> None:
    hub = StreamHub()
    emitter = hub.emitter("e")
    with pytest.raises(BadRequestError) as refused:
        say(emitter)
    assert message in str(refused.value)
    say(Emitter(hub.publisher, "e", strict=False))
    say(NO_EMITTER)
    assert [(record.exc_info, message in record.getMessage()) for record in caplog.records] == [(None, True)]
    await hub.aclose()


async def test_a_category_is_a_string() -> None:
    hub = StreamHub()
    category: Any = ["a"]
    with pytest.raises(BadRequestError, match="a category is a string"):
        hub.emit("e", "saved", category=category)
    assert not hub.executions()
    await hub.aclose()


async def test_progress_may_be_any_kind_of_number() -> None:
    hub = StreamHub()
    emitter: Any = hub.emitter("e")
    emitter.progress(Decimal(1), Fraction(4))
    emitter.message("hi", created_at=5)
    await hub.close("e")
    _, progress, message, _ = await collect(hub.subscribe("e"))
    assert progress.data["progress"] == 25.0
    assert message.data["created_at"] == 5
    await hub.aclose()
