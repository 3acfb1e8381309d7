"""The output of real programs: complete, in order, and nothing left of them."""

import asyncio
import os
import signal
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lg_streaming.activity import AgentStream
from lg_streaming.activity.lines import LineSplitter
from lg_streaming.emitter import Emitter
from lg_streaming.errors import BadRequestError, TransitionError
from lg_streaming.hub import StreamHub
from lg_streaming.settings import LimitSettings, RetentionSettings, StreamingSettings
from tests.activity.reading import read, said
from tests.hub.helpers import take

OUT, ERR = "agent:output:stdout", "agent:output:stderr"


def program(text: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(text)]


async def capture(agent: AgentStream, command: list[str], *, sync: bool, **options: Any) -> int:
    if sync:
        return await asyncio.to_thread(agent.capture_output_sync, command, **options)
    return await agent.capture_output(command, **options)


both_ways = pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])


@pytest.mark.row("CFLOW-21")
@both_ways
async def test_ten_thousand_lines_on_both_streams_are_complete_and_in_order(sync: bool) -> None:
    hub = StreamHub(
        StreamingSettings(retention=RetentionSettings(max_updates=100_000, max_bytes=1 << 28)),
    )
    agent = AgentStream(hub.emitter("e"), "a1")
    code = await capture(
        agent,
        program("""
            import sys
            for number in range(10_000):
                print("out", number, "x" * (number % 97))
                print("err", number, file=sys.stderr)
            sys.exit(3)
        """),
        sync=sync,
    )
    updates = await read(hub)
    await hub.aclose()
    assert code == 3
    out = [data["content"] for data in said(updates, OUT)]
    assert out == [f"out {number} {'x' * (number % 97)}\n" for number in range(10_000)]
    assert [data["content"] for data in said(updates, ERR)] == [f"err {number}\n" for number in range(10_000)]
    assert len(agent.output_buffer()) == 100


@pytest.mark.row("CFLOW-21")
@both_ways
async def test_long_lines_foreign_bytes_and_an_unended_last_line_are_kept(hub: StreamHub, sync: bool) -> None:
    agent = AgentStream(hub.emitter("e"), "a1")
    code = await capture(
        agent,
        program(r"""
            import os
            os.write(1, ("é" * 2500 + "\r\n").encode())
            os.write(1, b"bad \xff\xfe byte\n\n")
            os.write(1, "half €".encode()[:-1])
            os.write(2, b"no end")
        """),
        sync=sync,
        max_line=1000,
    )
    updates = await read(hub)
    pieces = [data["content"] for data in said(updates, OUT)]
    assert code == 0
    assert pieces == [
        "é" * 1000,
        "é" * 1000,
        "é" * 500 + "\r\n",
        "bad \N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER} byte\n",
        "\n",
        "half \N{REPLACEMENT CHARACTER}",
    ]
    assert [data["content"] for data in said(updates, ERR)] == ["no end"]


@given(st.lists(st.binary(max_size=12)), st.integers(1, 7))
def test_lines_are_what_came_however_it_was_cut(chunks: list[bytes], longest: int) -> None:
    lines = LineSplitter(longest)
    pieces = [piece for chunk in chunks for piece in lines.feed(chunk)] + list(lines.end())
    whole = b"".join(chunks).decode(errors="replace")
    assert "".join(pieces) == whole
    assert all(0 < len(piece) <= longest for piece in pieces)
    assert all("\n" not in piece[:-1] for piece in pieces)
    joined = "".join(piece if piece.endswith("\n") or len(piece) == longest else piece + "|" for piece in pieces)
    assert joined.count("|") - whole.count("|") <= 1, "only the last piece is short without a line end"


@pytest.mark.row("CFLOW-21")
@both_ways
async def test_lines_leave_while_the_program_runs(hub: StreamHub, sync: bool, tmp_path: Path) -> None:
    agent = AgentStream(hub.emitter("e"), "a1")
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    running = asyncio.create_task(
        capture(agent, program(f"print('first', flush=True); open({str(fifo)!r}).read(); print('second')"), sync=sync)
    )
    subscription = hub.subscribe("e", types=[OUT])
    (first,) = await take(subscription, 1)
    assert first.data["content"] == "first\n"
    assert not running.done()
    await asyncio.to_thread(fifo.write_text, "")
    assert await running == 0
    (second,) = await take(subscription, 1)
    assert second.data["content"] == "second\n"
    subscription.close()


GROUP = """
    import signal, subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print(child.pid, flush=True)
    {handler}
    print("ready\\nunended", end="", flush=True)  # in one write: who sees that it is ready may end it
    time.sleep(600)
"""


@pytest.mark.parametrize(
    ("handler", "grace", "last"),
    [
        ("", 5.0, "unended"),
        ("signal.signal(signal.SIGTERM, lambda *_: (print(' bye'), sys.exit(0)))", 5.0, "unended bye\n"),
        ("signal.signal(signal.SIGTERM, signal.SIG_IGN)", 0.1, "unended"),
    ],
    ids=["dies", "says good-bye", "ignores it"],
)
async def test_cancelling_ends_all_and_loses_nothing(hub: StreamHub, handler: str, grace: float, last: str) -> None:
    agent = AgentStream(hub.emitter("e"), "a1")
    running = asyncio.create_task(agent.capture_output(program(GROUP.format(handler=handler)), grace=grace))
    subscription = hub.subscribe("e", types=[OUT])
    first, ready = await take(subscription, 2)
    subscription.close()
    grandchild = int(first.data["content"])
    assert ready.data["content"] == "ready\n"
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert said(await read(hub), OUT)[-1]["content"] == last
    await until_gone(grandchild)


async def until_gone(pid: int) -> None:
    """Until a process is not there, or is only waiting to be collected by its parent."""
    async with asyncio.timeout(5):
        while True:
            try:
                state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            except (FileNotFoundError, ProcessLookupError):
                return
            if state in "ZX":
                return
            await asyncio.sleep(0.01)


async def test_cancelling_twice_does_not_wait(hub: StreamHub) -> None:
    agent = AgentStream(hub.emitter("e"), "a1")
    handler = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    running = asyncio.create_task(agent.capture_output(program(GROUP.format(handler=handler)), grace=600))
    subscription = hub.subscribe("e", types=[OUT])
    first, _ = await take(subscription, 2)
    subscription.close()
    running.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not running.done()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 5)
    await until_gone(int(first.data["content"]))


async def test_cancelled_before_it_began_nothing_runs(hub: StreamHub, tmp_path: Path) -> None:
    agent = AgentStream(hub.emitter("e"), "a1")
    mark = tmp_path / "pid"
    running = asyncio.create_task(
        agent.capture_output(
            program(f"import os, time; open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(600)")
        )
    )
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.to_thread(lambda: None)
    async with asyncio.timeout(5):  # the thread that starts it ends, and so does what it started
        while children_of(os.getpid()):
            await asyncio.sleep(0.01)


def children_of(pid: int) -> list[str]:
    return [
        child
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
        if "time.sleep(600)" in Path(f"/proc/{child}/cmdline").read_text()
    ]


def test_an_interrupt_ends_the_program_in_sync_code() -> None:
    hub = StreamHub()
    agent = AgentStream(hub.emitter("e"), "a1")
    pids: list[int] = []

    def interrupt() -> None:
        deadline = time.monotonic() + 10
        while not agent.output_buffer() and time.monotonic() < deadline:
            time.sleep(0.01)
        pids.append(int(agent.output_buffer()[0].content))
        signal.pthread_kill(main, signal.SIGINT)

    main = threading.get_ident()
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        agent.capture_output_sync(program(GROUP.format(handler="")))
    thread.join()
    asyncio.run(until_gone(pids[0]))
    asyncio.run(hub.aclose())


@both_ways
async def test_others_that_hold_the_pipes_are_not_waited_for_for_ever(hub: StreamHub, sync: bool) -> None:
    agent = AgentStream(hub.emitter("e"), "a1")
    began = time.monotonic()
    code = await capture(
        agent,
        program("""
            import subprocess, sys
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
            print(child.pid)
        """),
        sync=sync,
        grace=0.2,
    )
    assert code == 0
    assert time.monotonic() - began < 60
    os.kill(int(agent.output_buffer()[0].content), signal.SIGKILL)


@both_ways
async def test_a_program_that_a_signal_ended(hub: StreamHub, sync: bool) -> None:
    agent = AgentStream(hub.emitter("e"), "a1")
    assert await capture(agent, program("import os; os.kill(os.getpid(), 9)"), sync=sync) == -9


async def test_the_place_the_environment_and_the_input_are_given(hub: StreamHub, tmp_path: Path) -> None:
    agent = AgentStream(hub.emitter("e"), "a1")
    command = program("import os, sys; print(os.getcwd(), os.environ.get('MINE'), repr(sys.stdin.read()))")
    assert await agent.capture_output(command, cwd=tmp_path, env={"MINE": "1"}) == 0
    assert [piece.content for piece in agent.output_buffer()] == [f"{tmp_path} 1 ''\n"]


@both_ways
async def test_what_cannot_be_run_is_refused(hub: StreamHub, sync: bool) -> None:
    agent = AgentStream(hub.emitter("e"), "a1")
    with pytest.raises(BadRequestError):
        await capture(agent, "ls", sync=sync)  # pyright: ignore[reportArgumentType]
    with pytest.raises(BadRequestError):
        await capture(agent, [], sync=sync)
    with pytest.raises(BadRequestError):
        await capture(agent, ["true"], sync=sync, max_line=0)
    with pytest.raises(FileNotFoundError):
        await capture(agent, ["/no/such/program"], sync=sync)
    agent.stopped()
    with pytest.raises(TransitionError):
        await capture(agent, ["true"], sync=sync)


@both_ways
async def test_in_a_node_the_program_runs_whatever_the_agent_says(hub: StreamHub, sync: bool, tmp_path: Path) -> None:
    hub.open("e")
    agent = AgentStream(Emitter(hub.publisher, "e", strict=False), "a1")
    agent.stopped()
    mark = tmp_path / "ran"
    assert await capture(agent, ["touch", str(mark)], sync=sync, max_line=-1) == 0
    assert mark.exists()


async def test_an_update_that_is_refused_disturbs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    hub = StreamHub(StreamingSettings(limits=LimitSettings(update_bytes=1_024)))
    agent = AgentStream(hub.emitter("e"), "a1")
    code = await agent.capture_output(program("print('x' * 3000); print('small')"))
    assert code == 0
    assert said(await read(hub), OUT) == [{"agent_id": "a1", "content": "small\n"}]
    assert "of agent 'a1' was refused" in caplog.text
    await hub.aclose()


@pytest.mark.row("CFLOW-19")
async def test_output_that_is_not_included_is_kept(hub: StreamHub) -> None:
    agent = AgentStream(hub.emitter("e"), "a1", include_output=False)
    assert await agent.capture_output(["echo", "hello"]) == 0
    assert [piece.content for piece in agent.output_buffer("stdout")] == ["hello\n"]
    assert said(await read(hub), OUT) == []


@both_ways
async def test_a_program_that_is_silent_keeps_its_run_open(sync: bool) -> None:
    hub = StreamHub(StreamingSettings(limits=LimitSettings(idle_timeout=0.05)))
    agent = AgentStream(hub.emitter("e"), "a1")
    await capture(agent, program("import time; time.sleep(0.5); print('done')"), sync=sync)
    updates = await take(hub.subscribe("e", types=[OUT, "workflow_abandoned"]), 2)
    assert [update.type for update in updates] == [OUT, "workflow_abandoned"]
    await hub.aclose()
