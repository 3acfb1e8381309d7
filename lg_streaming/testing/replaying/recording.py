"""Recorded runs in a file of JSON lines: an index of their places, and their updates one by one."""

from __future__ import annotations

import gzip
import itertools
import shutil
import sys
import tempfile
import zlib
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self, cast

import orjson

from lg_streaming.errors import BadRequestError
from lg_streaming.events import FINAL_TYPES, StreamUpdate, check_execution_id
from lg_streaming.fork import new_lock
from lg_streaming.hub.callbacks import call_in_thread
from lg_streaming.testing.replaying.reading import members

__all__ = ["RecordedRun", "Recording"]

_GZIP: Final = b"\x1f\x8b"
_BOM: Final = b"\xef\xbb\xbf"
"""Byte order mark, which some editors write at the beginning of a file."""
_BLOCK: Final = 1 << 18
_PAGE: Final = 256
"""Updates that are read at once."""
_STDIN: Final = "-"


@dataclass(slots=True, kw_only=True)
class RecordedRun:
    """One run in a recording: where its lines are, and what the command shows about it."""

    execution_id: str
    begin: int
    """Offset of its first line."""
    first_at: datetime
    last_at: datetime
    end: int = 0
    """Offset behind its last line. Lines of other executions may be between the two."""
    updates: int = 0
    start: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Data of its ``workflow_start``; empty if the recording begins later."""
    ended: str | None = None
    """Type of its final update; None if the recording was cut off before the end."""
    graph: str | None = None
    """Name of its graph."""
    fields: set[str] = field(default_factory=set[str])
    """Fields of the graph's states and of its result."""

    @property
    def seconds(self) -> float:
        """Seconds from its first update to its last."""
        return max(0.0, (self.last_at - self.first_at).total_seconds())


class Recording:
    """Runs that a `JsonLinesSink` has written, or that a page has downloaded: one update on each line.

    Opening reads the file once, checks every line, and keeps only the places of runs. A compressed file, and the
    standard input, are copied to a temporary file first. Updates are then read while they are replayed, so that memory
    does not grow with the file.

    A line that repeats an earlier position of its execution is skipped: a sink may write a page twice after a failure.
    Gaps, which were made for the sink alone, are skipped and counted. Half a line at the end, which a crash has left,
    is skipped.

    Args:
        path: The file, plain or compressed with gzip; ``-`` is the standard input.
        executions: The executions to replay; None for all.

    Raises:
        BadRequestError: If a line is no update; the message has its number. If the file has no update, or an execution
            is not in it.
        OSError: If the file cannot be read.
    """

    def __init__(self, path: str | Path, *, executions: Iterable[str] | None = None) -> None:
        self.name: str = "the standard input" if str(path) == _STDIN else str(path)
        self.executions: dict[str, list[RecordedRun]] = {}
        """The runs of each execution, in their order."""
        self.gaps: int = 0
        """Lines about updates that the sink could not get."""
        self.repeated: int = 0
        """Lines that repeat an earlier one."""
        self.longest: int = 0
        """Bytes of the longest line."""
        self._lock = new_lock()
        self._file = _open_plain(path, self.name)
        try:
            self._scan()
            self._choose(executions)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def runs(self) -> list[RecordedRun]:
        """All runs."""
        return [run for runs in self.executions.values() for run in runs]

    async def updates(self, run: RecordedRun) -> AsyncGenerator[StreamUpdate]:
        """Yield the updates of a run, like `read`; the file is read in a thread."""
        found = self.read(run)
        while page := await call_in_thread(lambda: list(itertools.islice(found, _PAGE))):
            for update in page:
                yield update

    def read(self, run: RecordedRun) -> Iterator[StreamUpdate]:
        """Yield the updates of a run, in their order, without gaps and without repeated ones."""
        marker = orjson.dumps(run.execution_id)
        seen = _Positions()
        for _, line in self._lines(run.begin, run.end):
            if marker not in line and b"\\" not in line:
                continue  # of another execution; an escaped id may be written in another way
            update = StreamUpdate.from_json(line.removeprefix(_BOM))
            if update.execution_id == run.execution_id and update.type != "gap" and seen.is_new(update):
                yield update

    # --- the index ------------------------------------------------------------------------------------------

    def _scan(self) -> None:
        seen: dict[str, _Positions] = {}
        for number, (offset, line) in enumerate(self._lines(0, None), 1):
            if not line.strip():
                continue
            update = self._parse(number, offset, line)
            if update is None:
                continue
            if update.type == "gap":
                self.gaps += 1
                continue
            self.longest = max(self.longest, len(line))
            if seen.setdefault(update.execution_id, _Positions()).is_new(update):
                self._add(update, offset, offset + len(line))
            else:
                self.repeated += 1
        if not self.executions:
            raise BadRequestError(f"{self.name} has no update: give a file that a JsonLinesSink has written")

    def _parse(self, number: int, offset: int, line: bytes) -> StreamUpdate | None:
        """Return the update of a line; None for half a line at the end of the file."""
        try:
            update = StreamUpdate.from_json(line.removeprefix(_BOM) if offset == 0 else line)
            check_execution_id(update.execution_id)
        except BadRequestError as error:
            if not line.endswith(b"\n") and offset and not _is_json(line):
                return None
            raise BadRequestError(f"{self.name}, line {number}: {error.message}") from None
        return update

    def _add(self, update: StreamUpdate, begin: int, end: int) -> None:
        runs, at = self.executions.setdefault(update.execution_id, []), update.metadata.timestamp
        if not runs or runs[-1].ended is not None or update.type == "workflow_start":
            runs.append(RecordedRun(execution_id=update.execution_id, begin=begin, first_at=at, last_at=at))
        run = runs[-1]
        run.end, run.last_at, run.updates = end, at, run.updates + 1
        data = members(update.data)
        match update.type:
            case "workflow_start":
                run.start = data
                name = data.get("graph", data.get("name"))
                run.graph = name if isinstance(name, str) else None
            case "workflow_complete":
                run.fields |= members(data.get("result")).keys()
            case "state" if update.metadata.namespace is None:
                run.fields |= members(data.get("values")).keys()
            case _:
                pass
        if update.type in FINAL_TYPES:
            run.ended = update.type

    def _choose(self, executions: Iterable[str] | None) -> None:
        if executions is None:
            return
        chosen = list(executions)
        if missing := [each for each in chosen if each not in self.executions]:
            known = ", ".join(map(repr, list(self.executions)[:10]))
            raise BadRequestError(f"{self.name} has no execution {missing[0]!r:.80}; it has {known}")
        self.executions = {each: self.executions[each] for each in chosen}

    def _lines(self, begin: int, end: int | None) -> Iterator[tuple[int, bytes]]:
        """Yield offsets and lines. Several readers may take turns: each has its own place."""
        rest, at = b"", begin
        while end is None or at + len(rest) < end:
            size = _BLOCK if end is None else min(_BLOCK, end - at - len(rest))
            with self._lock:
                self._file.seek(at + len(rest))
                block = self._file.read(size)
            if not block:
                break
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                yield at, line + b"\n"
                at += len(line) + 1
        if rest:
            yield at, rest


class _Positions:
    """Newest position of an execution, to find repeated lines."""

    __slots__ = ("_epoch", "_number")

    def __init__(self) -> None:
        self._epoch, self._number = "", 0

    def is_new(self, update: StreamUpdate) -> bool:
        """Return whether an update is newer than those before."""
        epoch, number = update.metadata.epoch, update.metadata.sequence_number
        if epoch == self._epoch and number <= self._number:
            return False
        self._epoch, self._number = epoch, number
        return True


def _open_plain(path: str | Path, name: str) -> IO[bytes]:
    """Open a file that can be read at any offset: the file itself, or a copy of a pipe, or of what was compressed.

    Raises:
        BadRequestError: If a compressed file is damaged.
        OSError: If the file cannot be read.
    """
    if str(path) == _STDIN:
        file = _copied(cast("IO[bytes]", sys.stdin.buffer))
    else:
        file = cast("IO[bytes]", Path(path).open("rb"))  # noqa: SIM115 (closed with the recording)
        if not file.seekable():
            with file as pipe:
                file = _copied(pipe)
    start = file.read(len(_GZIP))
    file.seek(0)
    if start != _GZIP:
        return file
    with file as packed:
        try:
            return _copied(cast("IO[bytes]", gzip.GzipFile(fileobj=packed)))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise BadRequestError(f"{name} is a damaged gzip file: {error}") from None


def _copied(source: IO[bytes]) -> IO[bytes]:
    """Return a temporary file with the content of another one."""
    copy = cast("IO[bytes]", tempfile.TemporaryFile())  # noqa: SIM115 (closed with the recording)
    try:
        shutil.copyfileobj(source, copy, _BLOCK)
    except BaseException:
        copy.close()
        raise
    copy.seek(0)
    return copy


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except ValueError:
        return False
    return True
