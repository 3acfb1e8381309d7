"""A pipe as a sink's path, without a reader or with a late one."""

import os
import threading
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from lg_streaming.sinks import line_file
from lg_streaming.sinks.line_file import LineFile

LINE = b'{"type":"note","data":"%b"}\n' % (b"x" * 1_000)


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.fixture
def file(pipe: Path) -> Generator[LineFile]:
    opened = LineFile(pipe, fsync=False, follow_symlinks=False)
    yield opened
    opened.close()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system")
def test_a_pipe_that_nobody_reads_keeps_no_thread_for_ever(file: LineFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_file, "_LOCK_TIMEOUT", 0.1)
    began = time.monotonic()
    with pytest.raises(OSError, match="its reader has taken nothing"):
        file.write(LINE * 200)
    assert time.monotonic() - began < 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system")
def test_what_comes_after_half_a_line_begins_on_a_line_of_its_own(
    file: LineFile, pipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_file, "_LOCK_TIMEOUT", 0.1)
    with pytest.raises(OSError, match="its reader has taken nothing"):
        file.write(LINE * 200)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        first = b""
        while piece := _read(reader):
            first += piece
        file.write(LINE)
        *whole, half, last, end = (first + _read(reader)).split(b"\n")
    finally:
        os.close(reader)
    assert {each + b"\n" for each in whole} == {LINE}
    assert LINE.startswith(half)
    assert (last + b"\n", end) == (LINE, b"")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system")
def test_a_late_reader_gets_all(file: LineFile, pipe: Path) -> None:
    writer = threading.Thread(target=file.write, args=(LINE * 200,))
    writer.start()
    got = 0
    with pipe.open("rb") as reader:
        while got < len(LINE) * 200:
            got += len(reader.read1(65_536))
    writer.join(10)
    assert got == len(LINE) * 200
    assert not writer.is_alive()


def _read(file: int) -> bytes:
    try:
        return os.read(file, 1 << 20)
    except BlockingIOError:
        return b""
