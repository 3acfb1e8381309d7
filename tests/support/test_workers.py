"""All tests run in workers, picked ones in the process that was started."""

from pathlib import Path

import pytest


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
    return pytester


def expect(place: pytest.Pytester, in_worker: bool, *arguments: str) -> None:
    test = f"import os\n\ndef test_it():\n    assert ('PYTEST_XDIST_WORKER' in os.environ) is {in_worker}\n"
    (place.path / "tests/test_it.py").write_text(test, encoding="utf-8")
    place.runpytest_subprocess("-n", "logical", "--dist", "loadfile", *arguments).assert_outcomes(passed=1)


def test_all_tests_run_in_workers(place: pytest.Pytester) -> None:
    expect(place, True)


@pytest.mark.parametrize("arguments", [("-k", "it"), ("--lf",), ("tests/test_it.py",)], ids=" ".join)
def test_picked_tests_run_in_one_process(place: pytest.Pytester, arguments: tuple[str, ...]) -> None:
    expect(place, False, *arguments)


def test_who_wants_workers_for_picked_tests_gets_them(place: pytest.Pytester) -> None:
    expect(place, True, "-k", "it", "-n", "2")


def test_pytest_runs_without_xdist(place: pytest.Pytester) -> None:
    (place.path / "tests/test_it.py").write_text("def test_it(): ...", encoding="utf-8")
    place.runpytest_subprocess("-p", "no:xdist").assert_outcomes(passed=1)
