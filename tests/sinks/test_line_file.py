"""Files that others write as well: nothing of theirs is lost, and no line of a sink."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lg_streaming.backoff import Backoff
from lg_streaming.errors import BadRequestError, SinkError
from lg_streaming.hub import SendPolicy, StreamHub
from lg_streaming.sinks import JsonLinesSink, line_file
from lg_streaming.sinks.line_file import LineFile
from tests.hub.helpers import publish_many, soon, upto
from tests.support.forks import run_program
from tests.support.server import ROOT

OURS = b'{"type":"token","data":{},"metadata":{"sequence_number":1}}\n'
ONE_TRY = SendPolicy(attempts=1, backoff=Backoff(delay=0))


@contextmanager
def opened(path: Path, *, fsync: bool = False, follow_symlinks: bool = False) -> Generator[LineFile]:
    file = LineFile(path, fsync=fsync, follow_symlinks=follow_symlinks)
    try:
        yield file
    finally:
        file.close()


def write(path: Path, data: bytes = OURS, *, follow_symlinks: bool = False) -> None:
    with opened(path, follow_symlinks=follow_symlinks) as file:
        file.write(data)


@pytest.mark.parametrize(
    "foreign",
    [
        b"no line break at all",
        b"x" * 200_000,
        b'{"kind":"half',
        b'{"type": "service_account"',  # JSON as a person writes it
        b"one\ntwo\nthr",
        b'{"type":"whole","data":1}',  # all of a line but its break
        b'{"type":"a"}\n{"type":"b","data":[1,2]}',
        b"\xff\xfe\x00 bytes",
        b"[",
    ],
)
def test_what_the_sink_did_not_write_stays_and_gets_a_line_break(tmp_path: Path, foreign: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(foreign)
    write(path)
    assert path.read_bytes() == foreign + b"\n" + OURS


@given(st.binary(max_size=200))
@example(OURS[:-1])
@example(OURS + OURS[:20])
def test_a_file_loses_at_most_half_a_line_of_a_sink(tmp_path_factory: pytest.TempPathFactory, before: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "x"
    path.write_bytes(before)
    write(path)
    head, line_break, tail = before.rpartition(b"\n")
    kept = path.read_bytes()
    assert kept.endswith(OURS)
    if tail and b'{"type":"'.startswith(tail[:9]) and not is_json(tail):
        assert kept == head + line_break + OURS
    else:
        assert kept == before + (b"\n" if tail else b"") + OURS


def is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


async def test_a_file_that_ends_with_a_foreign_half_line_can_be_resumed(hub: StreamHub, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    publish_many(hub, "e", range(3))
    first = hub.attach("e", JsonLinesSink(path))
    await soon(hub.sinks.flush("e"))
    first.detach()
    await soon(first.wait())
    with path.open("ab") as file:
        file.write(b"# rotated by hand")
    for _ in range(2):
        sink, after = await asyncio.to_thread(JsonLinesSink.resume, path, execution_id="e")
        assert after is not None
        attachment = hub.attach("e", sink, after=after)
        hub.publish("e", "note")
        await soon(hub.sinks.flush("e"))
        attachment.detach()
        await soon(attachment.wait())
    found = path.read_text().split("\n")
    assert found.count("# rotated by hand") == 1
    seen = [json.loads(line)["metadata"]["sequence_number"] for line in found if line.startswith("{")]
    assert seen == upto(6)


def test_a_file_without_its_last_line_break_is_resumed_after_its_last_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    about = {"execution_id": "e", "epoch": "ab", "sequence_number": 7}
    path.write_text(json.dumps({"type": "x", "data": 1, "metadata": about}))
    position = JsonLinesSink.resume(path)[1]
    assert position is not None
    assert position.seq == 7


# --- who may read it, and where it is ---------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [0o022, 0o000, 0o077])
def test_a_new_file_is_its_owners_and_an_old_one_keeps_its_mode(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write(tmp_path / "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600
    old = tmp_path / "old"
    old.touch()
    old.chmod(0o640)
    write(old)
    assert stat.S_IMODE(old.stat().st_mode) == 0o640


@pytest.mark.parametrize("to", ["victim", "not there yet", "link"])
async def test_a_symbolic_link_is_followed_only_when_asked(hub: StreamHub, tmp_path: Path, to: str) -> None:
    victim, link = tmp_path / "victim", tmp_path / "link"
    victim.write_text("precious\n")
    link.symlink_to(tmp_path / to)  # the last one leads to itself
    refused = hub.attach("e", JsonLinesSink(link), policy=ONE_TRY, on_error="raise")
    publish_many(hub, "e", range(2))
    await hub.close("e")
    with pytest.raises(SinkError, match="symbolic link: give follow_symlinks=True"):
        await soon(refused.wait())
    assert victim.read_text() == "precious\n"
    assert not (tmp_path / "not there yet").exists()
    if to != "link":
        await asyncio.to_thread(write, link, follow_symlinks=True)
        assert (tmp_path / to).read_bytes().endswith(OURS)


def test_a_link_is_not_read_either(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(OURS)
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(OSError, match="symbolic link"):
        JsonLinesSink.resume(tmp_path / "link")
    with pytest.raises(BadRequestError):  # it is read, and has no update
        JsonLinesSink.resume(tmp_path / "link", follow_symlinks=True)


def is_no_link(_: Path) -> bool:
    return False


def test_a_link_put_there_between_check_and_opening_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "x").symlink_to(tmp_path / "victim")
    monkeypatch.setattr(Path, "is_symlink", is_no_link)
    with pytest.raises(OSError, match="symbolic link"):
        write(tmp_path / "x")
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_link_put_in_place_of_an_open_file_is_refused(tmp_path: Path) -> None:
    path, victim = tmp_path / "x", tmp_path / "victim"
    victim.write_text("precious")
    with opened(path) as file:
        file.write(OURS)
        path.rename(tmp_path / "moved")
        path.symlink_to(victim)
        with pytest.raises(OSError, match="symbolic link"):
            file.write(OURS)
    assert victim.read_text() == "precious"


# --- rotation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["rename", "rename and create", "remove", "truncate"])
async def test_a_rotated_file_is_left_and_the_new_one_goes_on(hub: StreamHub, tmp_path: Path, how: str) -> None:
    path, old = tmp_path / "x.jsonl", tmp_path / "x.jsonl.1"
    hub.attach("e", JsonLinesSink(path))
    publish_many(hub, "e", range(5))
    await soon(hub.sinks.flush("e"))
    before = path.read_bytes()
    match how:
        case "truncate":
            old.write_bytes(before)
            os.truncate(path, 0)
        case "remove":
            old.write_bytes(before)
            path.unlink()
        case _:
            path.rename(old)
            if how == "rename and create":
                path.touch()
    publish_many(hub, "e", range(5))
    await soon(hub.sinks.flush("e"))
    assert old.read_bytes() == before
    both = [json.loads(line) for line in (before + path.read_bytes()).splitlines()]
    assert [line["metadata"]["sequence_number"] for line in both] == upto(11)
    assert len(path.read_bytes().splitlines()) == 5


# --- several writers --------------------------------------------------------------------------------------------


async def test_two_sinks_of_one_path_lose_no_line(hub: StreamHub, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    policy = SendPolicy(batch_size=3)
    ids = [f"e{number}" for number in range(4)]
    attached = [hub.attach(each, JsonLinesSink(path), policy=policy) for each in ids]
    for number in range(60):
        for each in ids:
            hub.publish(each, "note", "x" * (number % 50) * 100)
        await asyncio.sleep(0)
    for each, attachment in zip(ids, attached, strict=True):
        await hub.close(each)
        await soon(attachment.wait())
    found = [json.loads(line)["metadata"] for line in path.read_text().splitlines()]
    for each in ids:
        assert [about["sequence_number"] for about in found if about["execution_id"] == each] == upto(62)


WRITER = """
import sys
from pathlib import Path
from lg_streaming.sinks.line_file import LineFile

path, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
file = LineFile(path, fsync=False, follow_symlinks=False)
for number in range(count):
    line = b'{"type":"%b","x":"' + b"x" * 3000 + b'","n":%d}\\n'
    file.write(b"".join(line % (name.encode(), number * 3 + k) for k in range(3)))
"""


def test_processes_of_one_path_lose_no_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(OURS[:30])
    names = ["a", "b", "c"]
    started = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name, "100"], cwd=ROOT) for name in names]
    assert [process.wait(60) for process in started] == [0, 0, 0]
    found = [json.loads(line) for line in path.read_text().splitlines()]
    for name in names:
        assert [line["n"] for line in found if line["type"] == name] == list(range(300))
    assert len(found) == 900


def test_a_writer_that_is_killed_leaves_no_broken_line_to_the_others(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    victim = subprocess.Popen([sys.executable, "-c", WRITER, str(path), "a", "1000000"], cwd=ROOT)
    while not path.exists() or path.stat().st_size < 100_000:
        assert victim.poll() is None
    victim.kill()
    victim.wait()
    write(path)
    assert all(is_json(line) for line in path.read_bytes().splitlines())


def test_the_lock_is_asked_for_in_time_and_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    path = tmp_path / "x"
    monkeypatch.setattr(line_file, "_LOCK_TIMEOUT", 0.05)
    with path.open("ab") as other, opened(path) as file:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(OSError, match=r"another process has locked it for 0\.05 s") as raised:
            file.write(OURS)
        assert raised.value.filename == str(path)
        assert path.read_bytes() == b""
        fcntl.flock(other, fcntl.LOCK_UN)
        file.write(OURS)
    assert path.read_bytes() == OURS


def test_a_writer_waits_for_another_one(tmp_path: Path) -> None:
    import fcntl

    path = tmp_path / "x"
    with path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        writing = threading.Thread(target=write, args=(path,))
        writing.start()
        other.write(b"first\n")
        other.flush()
        fcntl.flock(other, fcntl.LOCK_UN)
    writing.join(20)
    assert path.read_bytes() == b"first\n" + OURS


FORKED = """
import os, sys, json
from pathlib import Path
from lg_streaming.sinks import line_file
from lg_streaming.sinks.line_file import LineFile

line_file._LOCK_TIMEOUT = 0.05
path = Path("@PATH@")
file = LineFile(path, fsync=False, follow_symlinks=False)
file.write(b"parent\\n")
with file._locked():
    child = os.fork()
    if child == 0:
        try:
            file.write(b"child\\n")
        except OSError:
            os._exit(7)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(json.dumps(status))
"""


def test_a_forked_process_does_not_share_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "x"
    assert run_program(FORKED.replace("@PATH@", str(path))) == 7
    assert path.read_bytes() == b"parent\n"


# --- what fails -------------------------------------------------------------------------------------------------


def test_a_write_that_fails_takes_nothing_of_others_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old\n")
    real = os.write

    def half(file: int, data: Any) -> int:
        if bytes(data[:5]) != b"other":
            real(file, data[:4])
            real(file, b"somebody else's line\n")
            raise OSError(errno.EIO, "broken")
        return real(file, data)

    with opened(path) as file, monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(OSError, match="broken"):
            file.write(OURS)
    assert path.read_bytes() == b"old\n" + OURS[:4] + b"somebody else's line\n"


def test_a_write_that_fails_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    real, calls = os.write, 0

    def once(file: int, data: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(errno.ENOSPC, "no room")
        return real(file, data[:4])

    with opened(path) as file:
        file.write(b"old\n")
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", once)
            with pytest.raises(OSError, match="no room"):
                file.write(OURS)
        assert path.read_bytes() == b"old\n"
        file.write(OURS)
    assert path.read_bytes() == b"old\n" + OURS


def test_a_file_system_without_locks_is_written_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def unsupported(file: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    write(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == OURS


def test_windows_locks_a_byte_far_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int, int]] = []

    def locking(file: int, mode: int, count: int) -> None:
        calls.append((mode, os.lseek(file, 0, os.SEEK_CUR), count))

    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2, LK_UNLCK=0))
    write(tmp_path / "x")
    assert calls == [(2, 2**31 - 2, 1), (0, 2**31 - 2, 1)]
    assert (tmp_path / "x").read_bytes() == OURS
    monkeypatch.setitem(sys.modules, "msvcrt", None)
    write(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == OURS * 2


def test_a_pipe_is_neither_locked_nor_cut(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with opened(tmp_path / "pipe") as file:
        file.write(OURS)
        reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        assert os.read(reader, 1_000) == OURS
        os.close(reader)


def test_an_unbuffered_file_gets_all_of_a_line(tmp_path: Path) -> None:
    import io

    class Short(io.RawIOBase):
        def __init__(self) -> None:
            self.data = b""

        def writable(self) -> bool:
            return True

        def write(self, data: Any, /) -> int:
            self.data += bytes(data[:7])
            return min(7, len(data))

    file = Short()

    async def run() -> None:
        hub = StreamHub()
        attachment = hub.attach("e", JsonLinesSink(file))
        publish_many(hub, "e", range(3))
        await hub.close("e")
        await soon(attachment.wait())
        await hub.aclose()

    asyncio.run(run())
    found = [json.loads(line)["metadata"]["sequence_number"] for line in file.data.splitlines()]
    assert found == upto(5)
