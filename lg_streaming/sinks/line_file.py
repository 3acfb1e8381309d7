"""A file of JSON lines that several processes may append to."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import stat
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import orjson

__all__ = ["LineFile", "read_lines_reversed"]

_BLOCK: Final = 65_536
_MAX_LINE: Final = 64 * 1024 * 1024
"""Bytes of a last line without a line break that are examined; a longer one is kept."""
_LINE_START: Final = b'{"type":"'
"""The beginning of every line that a sink writes."""
_BINARY: Final[int] = getattr(os, "O_BINARY", 0)
"""Without it, Windows changes line breaks."""
_NO_FOLLOW: Final[int] = getattr(os, "O_NOFOLLOW", 0)
_OWNER_ONLY: Final = 0o600
_LOCK_TIMEOUT: Final = 5.0
"""Seconds to wait for the lock, or for the reader of a pipe."""
_POLL_INTERVAL: Final = 0.005
_MAX_REOPENS: Final = 5
"""Attempts to open a path that names another file once the lock is held."""
_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
"""Errors of a file system without locks, such as some network file systems."""
_LOCKED: Final = frozenset({errno.EAGAIN, errno.EACCES, errno.EDEADLK})
_LOCK_AT: Final = 2**31 - 2
"""The byte that Windows locks; it may lie behind the end of the file."""


class LineFile:
    """A file that the first write opens. One thread uses it; several objects may have the same path.

    Each write holds the file's lock, begins on a new line, and is atomic: the file has all of it, or nothing. A path
    that names another file than before, after a log rotation, is reopened.

    Args:
        path: The file; it is created with the mode 0600 where it is missing.
        fsync: True puts each write on the disk before it returns.
        follow_symlinks: True follows a path that is a symbolic link.
    """

    def __init__(self, path: Path, *, fsync: bool, follow_symlinks: bool) -> None:
        self._path = path
        self._fsync = fsync
        self._follow_symlinks = follow_symlinks
        self._file: int | None = None
        self._process = 0
        self._has_half_line = False
        """True while a pipe has taken a part of a line."""

    def write(self, data: bytes) -> None:
        """Append ``data``, which has whole lines, or nothing.

        Raises:
            OSError: If the write failed, the path is a symbolic link, or another process keeps the lock.
        """
        with self._locked() as file:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):  # a pipe or a device has no end and cannot be cut
                self._write_into_pipe(file, data)
                return
            size = _end_line(file, status.st_size)
            try:
                _write_all(file, data)
                if self._fsync:
                    os.fsync(file)
            except BaseException:
                with contextlib.suppress(OSError):
                    _undo(file, size, data)
                raise

    def _write_into_pipe(self, file: int, data: bytes) -> None:
        """Write to a pipe while its reader reads. Written bytes cannot be undone.

        Raises:
            OSError: If the reader has taken nothing for 5 seconds.
        """
        with contextlib.suppress(OSError, AttributeError):  # Windows
            os.set_blocking(file, False)
        rest = memoryview(b"\n" + data if self._has_half_line else data)
        deadline = time.monotonic() + _LOCK_TIMEOUT
        while rest:
            try:
                written = os.write(file, rest)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise OSError(
                        errno.EAGAIN, f"its reader has taken nothing for {_LOCK_TIMEOUT:g} s", str(self._path)
                    ) from None
                time.sleep(_POLL_INTERVAL)
                continue
            rest = rest[written:]
            self._has_half_line = bool(rest)
            deadline = time.monotonic() + _LOCK_TIMEOUT

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            file, self._file = self._file, None
            os.close(file)

    @contextmanager
    def _locked(self) -> Generator[int]:
        """Lock the file that the path names now, for the time of the block."""
        deadline = time.monotonic() + _LOCK_TIMEOUT
        for _ in range(_MAX_REOPENS):
            file = self._open()
            release = _lock(file, deadline, self._path)
            try:
                if self._is_current(file):
                    yield file
                    return
            finally:
                release()
            self.close()  # the path names another file by now
        raise OSError(errno.ESTALE, "the path names another file each time it is opened", str(self._path))

    def _open(self) -> int:
        # A forked process shares the descriptor, and with it the lock, with its parent: each opens the file itself.
        if self._process != os.getpid():
            self.close()
        if self._file is None:
            self._file = open_file(
                self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, follow_symlinks=self._follow_symlinks
            )
            self._process = os.getpid()
        return self._file

    def _is_current(self, file: int) -> bool:
        try:
            return os.path.samestat(self._path.stat(follow_symlinks=self._follow_symlinks), os.fstat(file))
        except FileNotFoundError:
            return False


def open_file(path: Path, flags: int, *, follow_symlinks: bool) -> int:
    """Open ``path``; a new file can be read and written by its owner only.

    Raises:
        OSError: If it cannot be opened, or is a symbolic link that is not followed.
    """
    if not follow_symlinks:
        if path.is_symlink():
            raise _is_link(path)
        flags |= _NO_FOLLOW
    try:
        return os.open(path, flags | _BINARY, _OWNER_ONLY)
    except OSError as error:
        if error.errno == errno.ELOOP and not follow_symlinks:  # it became one since the check
            raise _is_link(path) from None
        raise


def _is_link(path: Path) -> OSError:
    return OSError(errno.ELOOP, "it is a symbolic link: give follow_symlinks=True to write where it points", str(path))


def _write_all(file: int, data: bytes) -> None:
    written = os.write(file, data)
    if written < len(data):  # the disk is nearly full, or a signal came
        rest = memoryview(data)[written:]
        while rest:
            rest = rest[os.write(file, rest) :]


def _undo(file: int, size: int, data: bytes) -> None:
    """Cut off the part that a failed write left, unless other data follows ``size``."""
    added = os.fstat(file).st_size - size
    if 0 < added <= len(data) and _read(file, size, size + added) == data[:added]:
        os.ftruncate(file, size)


# --- the end of a file ------------------------------------------------------------------------------------------


def _end_line(file: int, size: int) -> int:
    """Make a file end with a line break, and return its new size.

    Half a line that a sink wrote is removed. Any other text is kept, and gets a line break.
    """
    if size == 0 or _read(file, size - 1, size) == b"\n":
        return size
    begin = _end_of_last_line(file, size)
    if begin is not None and _is_half_line(file, begin, size):
        os.ftruncate(file, begin)
        return begin
    _write_all(file, b"\n")
    return size + 1


def _is_half_line(file: int, begin: int, end: int) -> bool:
    """Return whether a sink wrote a part of a line here."""
    start = _read(file, begin, min(end, begin + len(_LINE_START)))
    return _LINE_START.startswith(start) and not _is_json(_read(file, begin, end))


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except ValueError:
        return False
    return True


def _end_of_last_line(file: int, end: int) -> int | None:
    """Return the offset after the last line break; None when the last 64 MiB have no line break."""
    least = max(0, end - _MAX_LINE)
    while end > least:
        begin = max(0, end - _BLOCK)
        found = _read(file, begin, end).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0 if end == 0 else None


def _read(file: int, begin: int, end: int) -> bytes:
    os.lseek(file, begin, os.SEEK_SET)  # Windows has no `pread`; writes append nevertheless
    pieces: list[bytes] = []
    while begin < end and (piece := os.read(file, end - begin)):
        pieces.append(piece)
        begin += len(piece)
    return b"".join(pieces)


def read_lines_reversed(path: Path, *, follow_symlinks: bool) -> Iterator[bytes]:
    """Yield the lines of a file, the last one first; a last line without a line break counts if it is JSON."""
    file = open_file(path, os.O_RDONLY, follow_symlinks=follow_symlinks)
    try:
        end = os.fstat(file).st_size
        last = _end_of_last_line(file, end)
        if last is not None and last < end and _is_json(line := _read(file, last, end)):
            yield line
        if last:
            yield from _complete_lines(file, last - 1)  # without the last line break
    finally:
        os.close(file)


def _complete_lines(file: int, end: int) -> Iterator[bytes]:
    tail: list[bytes] = []  # the end of a line that begins in an earlier block; its last part first
    while end > 0:
        begin = max(0, end - _BLOCK)
        first, *others = _read(file, begin, end).split(b"\n")
        if others:
            yield b"".join([others.pop(), *reversed(tail)])
            yield from reversed(others)
            tail = []
        tail.append(first)
        end = begin
    if tail:
        yield b"".join(reversed(tail))


# --- the lock ---------------------------------------------------------------------------------------------------


def _nothing() -> None:
    """Do nothing: the file is not locked."""


def _lock(file: int, deadline: float, path: Path) -> Callable[[], object]:
    """Lock an open file where its file system has locks, and return the function that unlocks it.

    Raises:
        OSError: If another process keeps the lock until ``deadline``.
    """
    if not stat.S_ISREG(os.fstat(file).st_mode):
        return _nothing
    lock, release = _lock_functions()
    while True:
        try:
            lock(file)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return _nothing
            if error.errno not in _LOCKED:
                raise
        else:
            return lambda: release(file)
        if time.monotonic() >= deadline:
            raise OSError(errno.EAGAIN, f"another process has locked it for {_LOCK_TIMEOUT:g} s", str(path)) from None
        time.sleep(_POLL_INTERVAL)


_FileAction = Callable[[int], object]
"""A function of a file descriptor."""


def _lock_functions() -> tuple[_FileAction, _FileAction]:
    """Return the functions that lock and unlock an open file; they do nothing on a system without locks."""
    try:
        import fcntl  # noqa: PLC0415 (not on Windows)
    except ImportError:
        return _windows_locks()
    return lambda file: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB), lambda file: fcntl.flock(file, fcntl.LOCK_UN)


def _windows_locks() -> tuple[_FileAction, _FileAction]:
    try:
        msvcrt: Any = importlib.import_module("msvcrt")
    except ImportError:
        return (lambda _: None), (lambda _: None)

    def call(file: int, mode: int) -> None:
        os.lseek(file, _LOCK_AT, os.SEEK_SET)
        msvcrt.locking(file, mode, 1)

    return lambda file: call(file, msvcrt.LK_NBLCK), lambda file: call(file, msvcrt.LK_UNLCK)
