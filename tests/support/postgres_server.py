"""A real PostgreSQL server on a Unix socket, for the checkpoints of a worker's tests.

Start it in the main thread, like `tests.support.redis_server`: it ends with the thread that started it.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg

__all__ = ["PostgresServer", "postgres_program", "postgres_server"]

_TIMEOUT: Final = 30.0
_DEBIAN: Final = Path("/usr/lib/postgresql")
_FAST: Final = (
    *("fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off", "jit=off"),
    *("listen_addresses=", "shared_buffers=8MB", "max_wal_size=64MB", "max_connections=60"),
    *("dynamic_shared_memory_type=mmap", "logging_collector=off"),
)


def postgres_program(name: str) -> str:
    """Path of a program of PostgreSQL: Debian keeps them by version, outside of the path."""
    found = sorted(_DEBIAN.glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    program = str(found[-1]) if found else shutil.which(name)
    assert program is not None, f"{name} is missing: make tools installs postgresql"
    return program


class PostgresServer:
    """A server with one database. Its data lie in a folder of their own, which `stop` removes."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lg-pg-"))  # short: a socket's path has 107 bytes
        self._as_user: list[str] = []
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            user = pwd.getpwnam("postgres")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._as_user = ["--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--clear-groups"]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """URL of the database."""
        return f"postgresql://postgres@/postgres?host={self.folder}"

    def start(self) -> None:
        """Make its data, start it, and wait until it answers."""
        data = self.folder / "data"
        made = subprocess.run(
            self._command(
                "initdb", "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8"
            ),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            cwd=self.folder,
            check=False,
        )
        assert made.returncode == 0, made.stderr
        options = [part for each in _FAST for part in ("-c", each)]
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                self._command("postgres", "-D", str(data), "-k", str(self.folder), *options),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        deadline = time.monotonic() + _TIMEOUT
        while True:
            try:
                psycopg.connect(self.url, connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                runs = self._process.poll() is None
                if not runs or time.monotonic() > deadline:
                    raise AssertionError((self.folder / "log").read_text(errors="replace")) from None
                time.sleep(0.02)

    def stop(self) -> None:
        """End it and remove its data. Repeated calls do nothing."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGQUIT)  # at once, with its own processes
            process.wait(_TIMEOUT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _command(self, program: str, *arguments: str) -> Sequence[str]:
        guard = shutil.which("setpriv")
        assert guard is not None or not self._as_user, "setpriv is missing: root cannot run PostgreSQL without it"
        before = [] if guard is None else [guard, *self._as_user, "--pdeathsig", "KILL"]
        return [*before, postgres_program(program), *arguments]


@contextmanager
def postgres_server() -> Generator[PostgresServer]:
    """A running server; ended with the context."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.stop()
