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
from lg_streaming.sinks.line_file import LineFile, read_lines_reversed
from lg_streaming.sinks.worker import BlockingCallRunner

if TYPE_CHECKING:
    from lg_streaming.hub.page import Page
    from lg_streaming.hub.sink import CloseReason

__all__ = ["JsonLinesSink"]

_POLICY: Final = SendPolicy(batch_size=2_000, timeout=math.inf, attempts=4, backoff=Backoff(delay=0.2, max_delay=5.0))


class BinaryFile(Protocol):
    """A file that is open for writing bytes."""

    def write(self, data: bytes, /) -> object:
        """Write all of ``data``."""
        ...

    def flush(self) -> object:
        """Flush the buffer."""
        ...


class JsonLinesSink:
    """A sink that appends each update to a file, as one line of the same JSON as on every wire.

    The file has complete lines only: a write that fails half way is undone and repeated, with four attempts in all.
    Half a line that a sink wrote before a crash is removed at the next write. Any other text at the end of the file is
    kept, and gets a line break. A gap is a line as well, of type ``gap``.

    Several sinks, also of several processes, may append to one path. Each write holds an advisory lock on the file, so
    lines stay whole, in any order. A write that waits 5 seconds for the lock fails. After a log rotation the next write
    goes to the file that the path then names.

    The sink writes in a thread, in batches of up to 2,000 updates. A call has no time limit, since a write cannot be
    cancelled. Set no other limit, or lines may be written twice.

    Args:
        file: A path to append to, or a file that is open for writing bytes, which is not closed. A new file has the
            mode 0600: only its owner reads it.
        fsync: True puts each batch on the disk before the next one: it then survives a power cut, and is slower. Only
            for a path.
        follow_symlinks: True follows a path that is a symbolic link, such as ``/dev/stdout``. Otherwise each write to
            one fails. Only for a path.
        id: The name of the sink; the path when not given.
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
            self._out: LineFile | _GivenFile = LineFile(path, fsync=fsync, follow_symlinks=follow_symlinks)
            self.id: str = id or f"jsonl-{path}"
            self.claim_by_default: bool = True
            """True if one process of several serves the sink: see the option ``claim`` of `StreamHub.attach`."""
        else:
            if fsync or follow_symlinks:
                raise BadRequestError("fsync and follow_symlinks need a path, not an open file")
            self._out = _GivenFile(file)
            self.id = id or f"jsonl-{secrets.token_hex(4)}"
            self.claim_by_default = id is not None
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
        """Return a sink for an existing file, and the position of its last update, to `attach` the sink after.

        This reads the end of the file; on an event loop, call it with `asyncio.to_thread`. The position is None where
        the file is missing or has no update. Lines that are no updates are skipped, where an update comes before them.

        Args:
            path: The file.
            execution_id: The execution whose last line counts; any execution when not given.
            fsync: See `JsonLinesSink`.
            follow_symlinks: See `JsonLinesSink`.
            id: See `JsonLinesSink`.

        Raises:
            BadRequestError: If the file has lines, and none is an update.
            OSError: If the file cannot be read, or is a symbolic link.
        """
        position = _last_position(Path(path), execution_id, follow_symlinks=follow_symlinks)
        return cls(path, fsync=fsync, follow_symlinks=follow_symlinks, id=id), position

    async def send_page(self, execution_id: str, page: Page) -> None:
        """Append the updates of ``page``.

        Raises:
            OSError: If the write failed. A file that the sink opened then has none of them.
        """
        lines = [record.json for record in page.records]
        if page.gap is not None:
            lines.insert(0, _gap_line(execution_id, page))
        if lines:
            await self._worker.run(lambda: self._out.write(b"\n".join([*lines, b""])))

    async def closed(self, reason: CloseReason) -> None:
        """Write nothing: the final update is the last line."""

    def is_active(self) -> bool:
        """Return whether it is open."""
        return not self._closed

    async def aclose(self) -> None:
        """Close the file, if the sink opened it, after the present write."""
        if not self._closed:
            self._closed = True
            await self._worker.run(self._out.close)
            self._worker.close()


class _GivenFile:
    """A file that the application opened."""

    def __init__(self, file: BinaryFile) -> None:
        self._file = file

    def write(self, data: bytes) -> None:
        written = self._file.write(data)
        while isinstance(self._file, io.RawIOBase) and isinstance(written, int) and 0 < written < len(data):
            data = data[written:]  # an unbuffered file may take a part; any other takes all, or raises
            written = self._file.write(data)
        self._file.flush()

    def close(self) -> None:
        """Do nothing: the application closes its file."""


def _last_position(path: Path, execution_id: str | None, *, follow_symlinks: bool) -> Position | None:
    if not path.exists():
        return None
    foreign: bytes | None = None
    found = False
    for line in read_lines_reversed(path, follow_symlinks=follow_symlinks):
        try:
            metadata: dict[str, Any] = orjson.loads(line)["metadata"]
            position = Position(metadata["epoch"], metadata["sequence_number"])
            line_id = metadata["execution_id"]
        except (ValueError, KeyError, TypeError):
            foreign = line if foreign is None else foreign
            continue
        found = True
        if execution_id is None or line_id == execution_id:
            return position
    if foreign is not None and not found:
        raise BadRequestError(f"{path} has no line that is an update, but: {foreign[:80]!r}")
    return None


def _gap_line(execution_id: str, page: Page) -> bytes:
    gap, position = page.gap, page.position
    metadata = {
        "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "execution_id": execution_id,
        "sequence_number": gap.last or 0 if gap is not None else 0,
        "epoch": position.epoch if position is not None else "",
    }
    return orjson.dumps({"type": "gap", "data": gap.to_dict() if gap is not None else None, "metadata": metadata})
