"""A server whose output is not read any more, as after `serve | head -1`."""

import signal
import subprocess
import sys

import pytest

from tests.serving.process import APP, COMMAND
from tests.support.server import ROOT


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_it_stops_all_the_same(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, *COMMAND, *APP, "--port=0"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"Serving ")
        process.stdout.close()
        process.stderr.close()
        try:
            process.send_signal(number)
            process.wait(20)
        finally:
            process.kill()
