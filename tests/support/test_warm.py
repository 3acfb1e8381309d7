"""Programs that run in forks of a warm interpreter are as apart as programs in interpreters of their own."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support import warm
from tests.support.warm import ROOT, ForkServer, WarmError

# Everything of its surroundings that a program can see, except which modules are imported.
PROBE = """
import asyncio, gc, json, logging, os, random, resource, signal, sys, threading, warnings
print(json.dumps({
    "name": [__name__, sys.modules["__main__"].__dict__ is globals(), bool(globals().get("__spec__"))],
    "argv": sys.argv,
    "path": sys.path,
    "folder": os.getcwd(),
    "environment": dict(os.environ),
    "descriptors": sorted(os.listdir("/proc/self/fd"))[:-1],
    "modes": [os.fstat(each).st_mode for each in range(3)],
    "streams": [
        [each.encoding, each.errors, each.line_buffering, each.isatty()] for each in (sys.stdin, sys.stdout, sys.stderr)
    ],
    "unbuffered": sys.stdout.write_through,
    "read": sys.stdin.read(),
    "signals": [str(signal.getsignal(each)) for each in signal.valid_signals() if each != signal.SIGHUP],
    "blocked": len(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "wakeup": signal.set_wakeup_fd(-1),
    "limits": resource.getrlimit(resource.RLIMIT_NOFILE),
    "threads": [threading.active_count(), len(os.listdir("/proc/self/task"))],
    "main": threading.current_thread() is threading.main_thread(),
    "collects": gc.isenabled(),
    "log": [str(logging.root.handlers), logging.root.level, logging.root.manager.disable],
    "errors": [str(sys.excepthook), str(threading.excepthook), sys.exc_info()[0], sys.gettrace()],
    "flags": str(sys.flags),
    "policy": type(asyncio.get_event_loop_policy()).__name__,
    "mask": os.umask(0),
}))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "probe.py").write_text(PROBE)
    (tmp_path / "package").mkdir()
    (tmp_path / "package/__init__.py").touch()
    (tmp_path / "package/__main__.py").write_text(PROBE)
    return tmp_path


@pytest.mark.parametrize(
    "env",
    [{"PYTHONUNBUFFERED": ""}, {"PYTHONUNBUFFERED": "1", "PYTHONPATH": f"/nowhere:{ROOT}", "LG_STREAMING_X": "1"}],
)
@pytest.mark.parametrize(
    "arguments",
    [("-c", PROBE, "a"), ("-m", "probe", "-c", "b"), ("-m", "package"), ("probe.py", "c")],
    ids=lambda a: a[0],
)
def test_a_program_sees_what_a_new_interpreter_shows_it(
    folder: Path, arguments: tuple[str, ...], env: dict[str, str]
) -> None:
    def seen(*, fresh: bool) -> dict[str, Any]:
        done = warm.run(*arguments, env={**os.environ, **env}, cwd=folder, fresh=fresh)
        assert (done.returncode, done.stderr) == (0, "")
        told: dict[str, Any] = json.loads(done.stdout)
        told["modes"] = told["modes"][0]  # the output is a pipe for one and a file in memory for the other
        return told

    assert seen(fresh=False) == seen(fresh=True)


def test_what_a_program_prints_and_its_exit_code_are_returned() -> None:
    done = warm.run("-c", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)")
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_a_program_sees_nothing_of_the_one_before() -> None:
    first = "import os, random, sys, tabnanny; kept = 1; os.environ['KEPT'] = '1'; print(random.random())"
    second = "import os, sys; print('kept' in globals(), 'KEPT' in os.environ, 'tabnanny' in sys.modules)"
    seeds = {warm.run("-c", first).stdout for _ in range(2)}
    assert len(seeds) == 2
    assert warm.run("-c", second).stdout == "False False False\n"


def test_the_library_is_there_before_and_nothing_that_only_tests_import() -> None:
    seen = warm.run("-c", "import json, sys; print(json.dumps(sorted(sys.modules)))").stdout
    modules = set(json.loads(seen))
    assert {"lg_streaming.module", "lg_streaming.cli.serve", "langgraph.graph", "uvicorn"} < modules
    assert not {each.partition(".")[0] for each in modules} & {"tests", "pytest", "_pytest", "granian", "hypothesis"}


def test_the_library_has_no_state_yet() -> None:
    program = """
import asyncio, gc
from lg_streaming import StreamHub, StreamingModule
from lg_streaming.capture.run_registry import RUNS
gc.unfreeze()
state = asyncio.AbstractEventLoop | StreamHub | StreamingModule
print([each for each in gc.get_objects() if isinstance(each, state)], len(RUNS))
"""
    assert warm.run("-c", program).stdout == "[] 0\n"


def test_an_error_is_traced() -> None:
    done = warm.run("-c", "\n\nnot_defined\n")
    assert done.returncode == 1
    assert 'File "<string>", line 3, in <module>' in done.stderr
    assert done.stderr.endswith("NameError: name 'not_defined' is not defined\n")


@pytest.mark.parametrize("fresh", [False, True])
def test_a_program_ends_like_one_of_its_own(tmp_path: Path, fresh: bool) -> None:
    (tmp_path / "program.py").write_text("""
import atexit, threading, time

class Kept:
    def __del__(self):
        print("freed")

kept = Kept()
kept.itself = kept
atexit.register(print, "at exit")
threading.Thread(target=lambda: (time.sleep(0.05), print("thread", kept is not None))).start()
print("end")
""")
    (tmp_path / "holder.py").write_text(
        "class Held:\n    def __del__(self):\n        print('freed')\n\nheld = Held()\n"
    )
    done = warm.run("program.py", cwd=tmp_path, fresh=fresh)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["end", "thread True", "at exit", "freed"]
    assert warm.run("-c", "import holder", cwd=tmp_path, fresh=fresh).stdout == "freed\n"


def test_a_program_that_does_not_end_is_ended_and_the_next_one_runs() -> None:
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        warm.run("-c", "import time; print('began', flush=True); time.sleep(600)", timeout=0.5)
    assert caught.value.output == "began\n"
    assert warm.run("-c", "print(1)").stdout == "1\n"


@pytest.mark.parametrize("fresh", [False, True])
def test_a_running_program_is_asked_and_signalled(fresh: bool) -> None:
    code = """
import signal, time
before = signal.signal(signal.SIGTERM, lambda *_: print("term", flush=True))
print(int(before), flush=True)
time.sleep(60)
"""
    with warm.start("-c", code, fresh=fresh) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "0\n"
        assert program.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            program.wait(0.01)
        program.terminate()
        assert program.stdout.readline() == "term\n"
        assert program.poll() is None
        program.send_signal(signal.SIGINT)
        assert program.wait(10) == program.returncode == program.poll() == -signal.SIGINT
        program.kill()  # too late, and no error
        assert program.stderr is not None
        assert program.stderr.read().endswith("KeyboardInterrupt\n")


@pytest.mark.parametrize("fresh", [False, True])
def test_a_terminal_is_the_programs_own(fresh: bool) -> None:
    ours, theirs = os.openpty()
    code = """
import os, sys, time
print(os.getsid(0) == os.getpid() == os.tcgetpgrp(0), os.ttyname(2) == os.ttyname(0), sys.stdout.line_buffering)
print(sorted(os.listdir("/proc/self/fd"))[:-1])
try:
    print("ready")
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted")
"""
    env = {**os.environ, "PYTHONUNBUFFERED": ""}
    with warm.start("-c", code, terminal=theirs, env=env, fresh=fresh) as program:
        os.close(theirs)
        seen = b""
        while b"ready" not in seen:
            seen += os.read(ours, 4_096)
        os.write(ours, b"\x03")
        while b"interrupted" not in seen:
            seen += os.read(ours, 4_096)
        assert program.wait(10) == 0
    os.close(ours)
    assert seen.decode().split("\r\n")[:2] == ["True True True", "['0', '1', '2']"]


def test_programs_run_side_by_side() -> None:
    code = "import sys, time; time.sleep(float(sys.argv[1])); sys.exit(int(sys.argv[2]))"
    with warm.start("-c", code, "0.4", "5") as slow, warm.start("-c", code, "0", "6") as quick:
        assert quick.wait(10) == 6
        assert slow.poll() is None
        assert slow.wait(10) == 5
    assert not Path(f"/proc/{slow.pid}").exists()  # no zombie is left


def test_what_only_a_start_heeds_is_refused() -> None:
    for change in ({"PYTHONHASHSEED": "1"}, {"PYTHONTRACEMALLOC": "1"}):
        with pytest.raises(WarmError, match="start the program with fresh=True"):
            warm.run("-c", "", env={**os.environ, **change})


def test_a_server_that_ends_ends_what_it_runs_and_says_so() -> None:
    server = ForkServer(os.environ)
    code = "import os, time; print(os.getppid(), flush=True); time.sleep(600)"
    program = server.start(["-c", code], folder=ROOT, environment=os.environ, terminal=None)
    assert program.stdout is not None
    assert program.stderr is not None
    with program.stdout, program.stderr:
        assert program.stdout.readline() == f"{server.pid}\n"
        server.close()
        assert program.stdout.read() == ""  # it is gone
    with pytest.raises(WarmError, match="the server ended"):
        program.wait(10)
    for terminal in (None, 2):
        with pytest.raises(WarmError, match="the server ended"):
            server.start(["-c", ""], folder=ROOT, environment=os.environ, terminal=terminal)
