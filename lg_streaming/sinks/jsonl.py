"""A file with one line of JSON for each update."""

from __future__ import annotations

import io
import math
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import orjson

from lg_streaming.backoff import Backoff
from lg_streaming.errors import BadRequestError
from lg_streaming.events import Position
from lg_streaming.hub.sink import SendPolicy
from lg_streaming.sinks.line_file import LineFile, lines_backwards
from lg_streaming.sinks.worker import BlockingCallRunner

if TYPE_CHECKING:
    from lg_streaming.hub.page import Page
    from lg_streaming.hub.sink import CloseReason

__all__ = ["JsonLinesSink"]

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

    The file has complete lines only: a write that fails half way is undone and tried again, four times in all. Half a
    line that a sink wrote before a crash is removed at the next write. Anything else at the end of the file is kept,
    and gets a line break. A gap is a line as well, of type ``gap``.

    Several sinks, also of several processes, may append to one path: each write holds an advisory lock on the file, so
    their lines come whole, in any order. A write waits up to 5 seconds for the lock, and fails then. Where logs are
    rotated, the next write goes to the file that the path names by then.

    The sink writes in a thread of its own, in portions of up to 2,000 updates. A call has no time limit, since a write
    cannot be called back; set no other one, or lines may come twice.

    Args:
        file: A path, to append to, or a file that is open for writing bytes, which is not closed. A new file has the
            mode 0600: only its owner reads it.
        fsync: Whether each portion is on the disk before the next one is written: it survives a power cut then, and is
            slower. Only for a path.
        follow_symlinks: Whether a path that is a symbolic link, such as ``/dev/stdout``, is taken for what it points
            to. Without it each write fails. Only for a path.
        id: Names the sink; the path when not given.
    """

    def __init__(
        self,
        file: str | os.PathLike[str] | BinaryFile,
        *,
        fsync: bool = False,
        follow_symlinks: bool = False,
        id: str | None = None,
    ) -> None:
        if isinstance(file, (str, os.PathLike)):
            path = Path(file)
            self._out: LineFile | _Open = LineFile(path, fsync=fsync, follow_symlinks=follow_symlinks)
            self.id: str = id or f"jsonl-{path}"
        else:
            if fsync or follow_symlinks:
                raise BadRequestError("fsync and follow_symlinks need a path, not an open file")
            self._out = _Open(file)
            self.id = id or f"jsonl-{secrets.token_hex(4)}"
        self.policy = _POLICY
        self._worker = BlockingCallRunner("lg-streaming-jsonl")
        self._closed = False

    @classmethod
    def resume(
        cls,
        path: str | os.PathLike[str],
        *,
        execution_id: str | None = None,
        fsync: bool = False,
        follow_symlinks: bool = False,
        id: str | None = None,
    ) -> tuple[Self, Position | None]:
        """A sink that goes on with a file, and the position of the last update in it, to `attach` it after.

        It reads the end of the file; on an event loop, call it with `asyncio.to_thread`. None stands for a file that is
        missing or has no update yet. Lines that are no updates are passed over, where there are updates before them.

        Args:
            path: The file.
            execution_id: Look for the last line of this execution; without it, the last line counts.
            fsync: See `JsonLinesSink`.
            follow_symlinks: See `JsonLinesSink`.
            id: See `JsonLinesSink`.

        Raises:
            BadRequestError: The file has lines, and none is an update.
            OSError: The file cannot be read, or is a symbolic link.
        """
        position = _last_position(Path(path), execution_id, follow_symlinks=follow_symlinks)
        return cls(path, fsync=fsync, follow_symlinks=follow_symlinks, id=id), position

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
        written = self._file.write(data)
        while isinstance(self._file, io.RawIOBase) and isinstance(written, int) and 0 < written < len(data):
            data = data[written:]  # an unbuffered file may take a part; any other takes all, or raises
            written = self._file.write(data)
        self._file.flush()

    def close(self) -> None:
        """It is not ours."""


def _last_position(path: Path, execution_id: str | None, *, follow_symlinks: bool) -> Position | None:
    if not path.exists():
        return None
    foreign: bytes | None = None
    found = False
    for line in lines_backwards(path, follow_symlinks=follow_symlinks):
        try:
            about: dict[str, Any] = orjson.loads(line)["metadata"]
            position = Position(about["epoch"], about["sequence_number"])
            about_id = about["execution_id"]
        except (ValueError, KeyError, TypeError):
            foreign = line if foreign is None else foreign
            continue
        found = True
        if execution_id is None or about_id == execution_id:
            return position
    if foreign is not None and not found:
        raise BadRequestError(f"{path} has no line that is an update, but: {foreign[:80]!r}")
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
