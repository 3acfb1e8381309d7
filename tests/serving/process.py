"""`python -m lg_streaming serve` in another process."""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tests.support import warm

COMMAND = ["-m", "lg_streaming", "serve"]
APP = ["tests.serving.app:make", "--factory"]
START_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0


@dataclass(slots=True, kw_only=True)
class Served:
    """A running server. `told` is what it wrote for the person at the terminal, `log` what it logged."""

    process: warm.Program | subprocess.Popen[str]
    url: str
    told: list[str] = field(default_factory=list[str])
    log: list[str] = field(default_factory=list[str])
    readers: list[threading.Thread] = field(default_factory=list[threading.Thread])

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Send the signal and wait for the end: returns the seconds it took."""
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(STOP_TIMEOUT)
        return time.monotonic() - began

    def end(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        for reader in self.readers:
            reader.join()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


@contextmanager
def served(
    *options: str, app: list[str] | None = None, env: dict[str, str] | None = None, fresh: bool = False
) -> Generator[Served]:
    """Serve `app` on a free port; killed at the end unless it ended before."""
    process = warm.start(
        *(*COMMAND, *(app or APP), "--port=0", *options),
        env={**os.environ, "PYTHONPATH": str(warm.ROOT), "PYTHONUNBUFFERED": "1", **(env or {})},
        fresh=fresh,
    )
    running = Served(process=process, url="")
    listening = threading.Event()

    def read_told() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            running.told.append(line)
            listening.set()
        listening.set()

    def read_log() -> None:
        assert process.stderr is not None
        running.log.extend(process.stderr)

    running.readers = [threading.Thread(target=read, daemon=True) for read in (read_told, read_log)]
    for reader in running.readers:
        reader.start()
    try:
        assert listening.wait(START_TIMEOUT)
        found = re.search(r"https?://\S+:\d+", "".join(running.told))
        assert found, (running.told, process.wait(), running.log)
        running.url = found[0]
        yield running
    finally:
        running.end()


def refused(*arguments: str, env: dict[str, str] | None = None, fresh: bool = False) -> tuple[int, str]:
    """Return the exit code and the output of a start that fails."""
    done = warm.run(
        *(*COMMAND, *arguments),
        env={**os.environ, "PYTHONPATH": str(warm.ROOT), **(env or {})},
        timeout=START_TIMEOUT,
        fresh=fresh,
    )
    return done.returncode, done.stdout + done.stderr
