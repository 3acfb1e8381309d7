"""A file with one line of JSON for each update."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import orjson

from lg_streaming.backoff import Backoff
from lg_streaming.errors import BadRequestError
from lg_streaming.events import Position
from lg_streaming.hub.sink import SendPolicy
from lg_streaming.sinks.worker import Worker

if TYPE_CHECKING:
    from lg_streaming.hub.sink import CloseReason
    from lg_streaming.hub.subscription import Page

__all__ = ["JsonLinesSink"]

_BLOCK: Final = 65_536
_POLICY: Final = SendPolicy(batch_size=2_000, timeout=math.inf, attempts=4, backoff=Backoff(delay=0.2, max_delay=5.0))


class BinaryFile(Protocol):
    """What is needed of a file that is open for writing bytes."""

    def write(self, data: bytes, /) -> object:
        """Writes all of ``data``."""
        ...

    def flush(self) -> object:
        """Hands on what was written."""
        ...


class JsonLinesSink:
    """Appends each update to a file, as one line of the same JSON that every wire carries.

    The file has complete lines only: a line that a crash cut in half is removed when the file is opened, and a write
    that fails half way is undone and tried again, four times in all. A gap is a line as well, of type ``gap``. It is
    written in a thread of the sink's own, in portions of up to 2,000 updates. A call has no time limit, since a write
    cannot be called back; set no other one, or lines may come twice.

    Args:
        file: A path, to append to, or a file that is open for writing bytes, which is not closed.
        fsync: Whether each portion is on the disk before the next one is written: it survives a power cut then, and is
            slower. Only for a path.
        id: Names the sink; the path when not given.
    """

    def __init__(
        self, file: str | os.PathLike[str] | BinaryFile, *, fsync: bool = False, id: str | None = None
    ) -> None:
        if isinstance(file, (str, os.PathLike)):
            path = Path(file)
            self._out: _Path | _Open = _Path(path, fsync=fsync)
            self.id: str = id or f"jsonl-{path}"
        else:
            if fsync:
                raise BadRequestError("fsync needs a path, not an open file")
            self._out = _Open(file)
            self.id = id or f"jsonl-{secrets.token_hex(4)}"
        self.policy = _POLICY
        self._worker = Worker("lg-streaming-jsonl")
        self._closed = False

    @classmethod
    def resume(
        cls,
        path: str | os.PathLike[str],
        *,
        execution_id: str | None = None,
        fsync: bool = False,
        id: str | None = None,
    ) -> tuple[Self, Position | None]:
        """A sink that goes on with a file, and the position of the last complete line, to `attach` it after.

        It reads the end of the file; on an event loop, call it with `asyncio.to_thread`. None stands for a file that is
        missing or has no update yet.

        Args:
            path: The file.
            execution_id: Look for the last line of this execution; without it, the last line counts.
            fsync: See `JsonLinesSink`.
            id: See `JsonLinesSink`.

        Raises:
            BadRequestError: A line is no update.
        """
        return cls(path, fsync=fsync, id=id), _last_position(Path(path), execution_id)

    async def send_page(self, execution_id: str, page: Page) -> None:
        """Appends the records of ``page``.

        Raises:
            OSError: They could not be written; nothing of them is in the file, if it was opened by the sink.
        """
        lines = [record.json for record in page.records]
        if page.gap is not None:
            lines.insert(0, _gap_line(execution_id, page))
        if lines:
            await self._worker.run(lambda: self._out.write(b"\n".join([*lines, b""])))

    async def closed(self, reason: CloseReason) -> None:
        """Writes nothing: the final update says it."""

    def is_active(self) -> bool:
        """Until it is closed."""
        return not self._closed

    async def aclose(self) -> None:
        """Closes the file, if it was opened here, after what is being written."""
        if not self._closed:
            self._closed = True
            await self._worker.run(self._out.close)
            self._worker.close()


class _Open:
    """A file that somebody else opened."""

    def __init__(self, file: BinaryFile) -> None:
        self._file = file

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()

    def close(self) -> None:
        """It is not ours."""


class _Path:
    """A file that is opened with the first write. Used in one thread."""

    def __init__(self, path: Path, *, fsync: bool) -> None:
        self._path = path
        self._fsync = fsync
        self._file: int | None = None

    def write(self, data: bytes) -> None:
        """Writes all of ``data``, or nothing."""
        if self._file is None:
            self._file = _open_complete(self._path)
        file = self._file
        size = os.fstat(file).st_size
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(file, rest) :]
            if self._fsync:
                os.fsync(file)
        except OSError:
            with contextlib.suppress(OSError):  # a pipe or a device cannot be cut
                os.ftruncate(file, size)
            raise

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _open_complete(path: Path) -> int:
    """Opens a file to append to, and cuts off what follows its last line break."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        end = os.fstat(file).st_size
        complete = _end_of_last_line(file, end)
        if complete < end:
            os.ftruncate(file, complete)
    except BaseException:
        os.close(file)
        raise
    return file


def _end_of_last_line(file: int, end: int) -> int:
    while end > 0:
        begin = max(0, end - _BLOCK)
        found = os.pread(file, end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


def _lines_backwards(path: Path) -> Iterator[bytes]:
    """The complete lines of a file, the last one first."""
    with path.open("rb") as file:
        end = _end_of_last_line(file.fileno(), file.seek(0, os.SEEK_END)) - 1  # without the last line break
        tail: list[bytes] = []  # of a line that began before what was read so far; the last part first
        while end > 0:
            begin = max(0, end - _BLOCK)
            first, *others = os.pread(file.fileno(), end - begin, begin).split(b"\n")
            if others:
                yield b"".join([others.pop(), *reversed(tail)])
                yield from reversed(others)
                tail = []
            tail.append(first)
            end = begin
        if tail:
            yield b"".join(reversed(tail))


def _last_position(path: Path, execution_id: str | None) -> Position | None:
    if not path.exists():
        return None
    for line in _lines_backwards(path):
        try:
            about: dict[str, Any] = orjson.loads(line)["metadata"]
            position = Position(about["epoch"], about["sequence_number"])
            about_id = about["execution_id"]
        except (ValueError, KeyError, TypeError):
            raise BadRequestError(f"{path} has a line that is no update: {line[:80]!r}") from None
        if execution_id is None or about_id == execution_id:
            return position
    return None


def _gap_line(execution_id: str, page: Page) -> bytes:
    gap, position = page.gap, page.position
    about = {
        "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "execution_id": execution_id,
        "sequence_number": gap.last or 0 if gap is not None else 0,
        "epoch": position.epoch if position is not None else "",
    }
    return orjson.dumps({"type": "gap", "data": gap.to_dict() if gap is not None else None, "metadata": about})
