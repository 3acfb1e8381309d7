"""All tests run in workers, picked ones in the process that was started."""

import os
from pathlib import Path

import pytest

WORKERS = ("-n", "logical", "--dist", "loadfile")


@pytest.fixture
def place(pytester: pytest.Pytester, root: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # where this test itself runs in one
    # One processor is two workers, which is enough of them.
    one = "import os\nos.cpu_count = lambda: 1\n"
    pytester.makeconftest(f"{one}from tests.conftest import pytest_xdist_auto_num_workers  # noqa: F401")
    # Without plugins that each of the processes would take long to import.
    others = "-p no:schemathesis -p no:langsmith_plugin"
    pytester.makeini(f"[pytest]\npythonpath = {root}\ntestpaths = tests\naddopts = {others}")
    pytester.mkdir("tests")
    (pytester.path / "tests/test_it.py").write_text(
        "import os\n\ndef test_it():\n    assert 'PYTEST_XDIST_WORKER' not in os.environ\n", encoding="utf-8"
    )
    return pytester


def workers(place: pytest.Pytester, *arguments: str) -> int:
    """The number of workers that xdist makes of these arguments; 0 for none."""
    config = place.parseconfig(*arguments)
    asked: int | str = config.option.numprocesses
    return config.hook.pytest_xdist_auto_num_workers(config=config) if asked == "logical" else int(asked)


def test_all_tests_run_in_two_workers_for_each_processor(place: pytest.Pytester) -> None:
    assert workers(place, *WORKERS) == 2 * (os.cpu_count() or 1)


@pytest.mark.parametrize("arguments", [("-k", "it"), ("--lf",), ("tests/test_it.py",)], ids=" ".join)
def test_picked_tests_run_in_one_process(place: pytest.Pytester, arguments: tuple[str, ...]) -> None:
    assert workers(place, *WORKERS, *arguments) == 0


def test_the_process_that_was_started_runs_them(place: pytest.Pytester) -> None:
    place.runpytest_subprocess(*WORKERS, "-k", "it").assert_outcomes(passed=1)


def test_who_wants_workers_for_picked_tests_gets_them(place: pytest.Pytester) -> None:
    assert workers(place, *WORKERS, "-k", "it", "-n", "2") == 2


def test_pytest_runs_without_xdist(place: pytest.Pytester) -> None:
    place.runpytest_subprocess("-p", "no:xdist").assert_outcomes(passed=1)
