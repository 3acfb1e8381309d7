"""Programs that run in forks of a warm interpreter are as apart as programs in interpreters of their own."""

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.support.warm import PRELOADED, Outcome, WarmError, WarmPython, warm_python


@pytest.fixture(scope="module")
def warm(root: Path) -> Generator[WarmPython]:
    with warm_python({**os.environ, "PYTHONPATH": str(root)}) as started:
        yield started


def ran(warm: WarmPython, folder: Path, code: str, *, seconds: int = 30) -> Outcome:
    program = folder / "program.py"
    program.write_text(code, encoding="utf-8")
    return warm.run(program, page=Path("/page.md"), folder=folder, seconds=seconds)


def test_what_a_program_prints_and_its_exit_code_are_returned(warm: WarmPython, tmp_path: Path) -> None:
    code = "import sys; print('out'); sys.stdout.flush(); print('err', file=sys.stderr); sys.exit(3)"
    assert ran(warm, tmp_path, code) == Outcome(code=3, output="out\nerr\n")
    assert ran(warm, tmp_path, "print(await __import__('asyncio').sleep(0, 'awaited'))").output == "awaited\n"


def test_a_program_sees_nothing_of_the_one_before(warm: WarmPython, tmp_path: Path) -> None:
    first = "import os, sys, tabnanny; kept = 1; os.environ['KEPT'] = '1'"
    second = "import os, sys; print('kept' in globals(), 'KEPT' in os.environ, 'tabnanny' in sys.modules)"
    assert ran(warm, tmp_path, first).code == 0
    assert ran(warm, tmp_path, second).output == "False False False\n"


def test_only_other_packages_are_there_before(warm: WarmPython, tmp_path: Path) -> None:
    code = f"""
import sys, threading
print(sorted(name for name in sys.modules if name.startswith(("lg_streaming", "tests"))))
print([name in sys.modules for name in {PRELOADED!r}], threading.active_count())
print(sys.stdin.read() == "", __name__, __file__, sys.argv, sys.path[0] == "")
"""
    assert ran(warm, tmp_path, code).output.splitlines() == [
        "[]",
        f"{[True] * len(PRELOADED)} 1",
        "True __main__ /page.md ['/page.md'] True",
    ]


def test_an_error_is_traced_into_the_page(warm: WarmPython, tmp_path: Path) -> None:
    outcome = ran(warm, tmp_path, "\n\nnot_defined\n")
    assert outcome.code == 1
    assert 'File "/page.md", line 3, in <module>' in outcome.output
    assert outcome.output.endswith("NameError: name 'not_defined' is not defined\n")


def test_a_program_ends_like_one_of_its_own(warm: WarmPython, tmp_path: Path) -> None:
    code = """
import atexit, threading, time
atexit.register(print, "at exit")
threading.Thread(target=lambda: (time.sleep(0.05), print("thread"))).start()
print("end")
"""
    assert ran(warm, tmp_path, code).output.splitlines() == ["end", "thread", "at exit"]


def test_a_program_that_does_not_end_is_ended_and_the_next_one_runs(warm: WarmPython, tmp_path: Path) -> None:
    assert ran(warm, tmp_path, "import time; time.sleep(600)", seconds=1).code == -signal.SIGALRM
    assert ran(warm, tmp_path, "print(1)") == Outcome(code=0, output="1\n")


def test_an_interpreter_that_ended_is_an_error(tmp_path: Path) -> None:
    with warm_python({**os.environ}) as started:
        kill = "import os, signal; os.kill(os.getppid(), signal.SIGKILL)"
        with pytest.raises(WarmError, match=f"ended with {-signal.SIGKILL}"):
            ran(started, tmp_path, kill)
