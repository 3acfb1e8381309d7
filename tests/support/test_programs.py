"""Test modules that start other programs are found, with each way of starting."""

from pathlib import Path

import pytest

from tests.support.programs import LONG, ordered, starts_programs


@pytest.mark.parametrize(
    "source",
    [
        "import subprocess",
        "from subprocess import run",
        "import pty",
        "from multiprocessing import Process",
        "from tests.support.node import node_client",
        "from tests.support.browser import chromium_page",
        "from tests.serving.process import served",
        "from tests.support.forks import run_program",
        "from tests.support import warm",
        "from tests.support import frames, warm",
        "def test_it(pytester):\n    pytester.runpytest_subprocess()",
        "import asyncio\nasync def test_it(): await asyncio.create_subprocess_exec('true')",
        "from tests.support import server\ndef test_it():\n    with server.serve_process('app'): ...",
        "from tests.support.server import serve_process\ndef test_it():\n    with serve_process('app'): ...",
    ],
)
def test_a_module_that_starts_programs_is_found(source: str) -> None:
    assert starts_programs(source)


@pytest.mark.parametrize(
    "source",
    [
        "import asyncio\nfrom tests.support.server import serve\ndef test_it():\n    with serve(None): ...",
        "from tests.support.node import JS\nNAME = 'subprocess'\nasync def test_it(): ...",
    ],
)
def test_other_modules_are_not(source: str) -> None:
    assert not starts_programs(source)


def test_their_tests_are_marked_before_marks_are_chosen(pytester: pytest.Pytester, root: Path) -> None:
    pytester.makeconftest("from tests.conftest import *  # noqa: F403")
    pytester.makepyfile(test_program="import subprocess\ndef test_it(): ...", test_plain="def test_it(): ...")
    result = pytester.runpytest_subprocess(
        "-o",
        f"pythonpath={root}",
        "-o",
        "markers=program\nbrowser",
        "-m",
        "not program",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:schemathesis",
    )
    result.assert_outcomes(passed=1, deselected=1)


def test_long_modules_come_first_then_both_kinds_take_turns_and_stay_whole() -> None:
    tests = ["a1", "a2", "b1", "P1", "P2", "c1", "Q1", "d1", "R1"]
    order = ordered(
        tests,
        module=lambda test: Path("tests/x", test[0]),
        starts=lambda test: test[0].isupper(),
        long=["x/R", "x/c", "x/z", "y/a"],
    )
    assert order == ["R1", "c1", "P1", "P2", "a1", "a2", "Q1", "b1", "d1"]
    assert ordered([], module=Path, starts=bool) == []


def test_every_long_module_exists(root: Path) -> None:
    assert [name for name in LONG if not (root / "tests" / name).is_file()] == []
