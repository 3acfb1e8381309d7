"""The page row-by-row has each row once, and names the tests that show it."""

import re
from pathlib import Path

import pytest

from tests.docs.rows import IDS, PAGE, MarkError, main, marked_tests, problems, rows_of, written

HEAD = "| id | there | here | shown by |\n|---|---|---|---|\n"


@pytest.fixture(scope="module")
def tests() -> dict[str, list[str]]:
    return marked_tests(Path(__file__).resolve().parents[1])


@pytest.fixture(scope="module")
def text() -> str:
    return PAGE.read_text(encoding="utf-8")


def test_every_row_is_there_once_and_is_shown_or_says_why_not(text: str, tests: dict[str, list[str]]) -> None:
    assert problems(text, tests) == []


def test_the_tests_on_the_page_are_those_of_the_marks(text: str, tests: dict[str, list[str]]) -> None:
    assert written(text, tests) == text, "run tools/rows"


def test_the_ids_are_those_of_five_systems() -> None:
    assert len(IDS) == 225 + 77
    assert {"FLOW-46", "AOS-30", "HIVE-87", "PYEV-22", "CFLOW-40", "HIVE-D29"} <= IDS
    assert not IDS & {"FLOW-47", "FLOW-00", "HIVE-D30", "HIVE-D0"}


# ---------------------------------------------------------------- how marks are read
def marks(folder: Path, source: str) -> dict[str, list[str]]:
    (folder / "tests").mkdir(exist_ok=True)
    (folder / "tests/test_it.py").write_text(source, encoding="utf-8")
    return marked_tests(folder / "tests")


def test_marks_of_functions_classes_parameters_and_modules_are_found(tmp_path: Path) -> None:
    source = """
pytestmark = [pytest.mark.row("A-0"), pytest.mark.browser]

@pytest.mark.row("A-1", "A-2")
@pytest.mark.parametrize("x", [1, pytest.param(2, marks=pytest.mark.row("A-3"))])
async def test_one(x): ...

@pytest.mark.row(*("A-2", "A-4"))
class TestMore:
    @pytest.mark.row("A-4")
    def test_two(self): ...

def helper(): ...
"""
    one, two = "tests/test_it.py::test_one", "tests/test_it.py::TestMore::test_two"
    assert marks(tmp_path, source) == {
        "A-0": [one, two],
        "A-1": [one],
        "A-2": [one, two],
        "A-3": [one],
        "A-4": [two],
    }


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ('CASES = [pytest.param(1, marks=pytest.mark.row("A-1"))]', "line 1: a mark here marks no test"),
        ('@pytest.mark.row("A-1")\ndef helper(): ...', "marks no test"),
        ("@pytest.mark.row(ROW)\ndef test_it(): ...", "not 'ROW'"),
    ],
)
def test_a_mark_that_cannot_be_read_is_told(tmp_path: Path, source: str, told: str) -> None:
    with pytest.raises(MarkError, match=re.escape(told)):
        marks(tmp_path, source)


# ---------------------------------------------------------------- how the page is written and checked
def test_the_last_column_is_written_and_nothing_else() -> None:
    text = f"# Rows\n\n{HEAD}| FLOW-01 | `a` | `b` | `tests/old.py::test` |\n| FLOW-02 | c | d |  |\n\nThe end.\n"
    tests = {"FLOW-01": [f"tests/test_it.py::test_{number}" for number in range(5)], "FLOW-02": ["t::two"]}
    new = written(text, tests)
    assert [row.shown_by for row in rows_of(new)] == [
        "`tests/test_it.py::test_0`<br>`tests/test_it.py::test_1`<br>`tests/test_it.py::test_2`<br>and 2 more",
        "`t::two`",
    ]
    assert [row.cells for row in rows_of(new)] == [("`a`", "`b`"), ("c", "d")]
    assert new.startswith(f"# Rows\n\n{HEAD}| FLOW-01 | `a` | `b` | ")
    assert new.endswith("\n\nThe end.\n")
    assert written(new, tests) == new


def test_what_was_written_by_hand_stays_where_no_test_says_more() -> None:
    text = f"{HEAD}| FLOW-01 | a | b | left out: why |\n| HIVE-01 | e | f | x |\n"
    assert [row.shown_by for row in rows_of(written(text, {}))] == ["left out: why", ""]
    assert next(row.shown_by for row in rows_of(written(text, {"FLOW-01": ["t"]}))) == "`t`"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("| FLOW-99 | a | b | left out: why |", "FLOW-99 is on the page, and there is no such row"),
        ("| FLOW-01 | a | b | left out: why |\n| FLOW-01 | a | b | left out: why |", "FLOW-01 is on the page 2 times"),
        ("| FLOW-01 | a | b |  |", "FLOW-01 (line 3): no test bears its mark"),
        ("| FLOW-01 | a | b | `tests/x.py::test_that_is_gone` |", "FLOW-01 (line 3): no test bears its mark"),
        ("| FLOW-01 | a | b | left out: |", "FLOW-01 (line 3): no test bears its mark"),
        ("| FLOW-01 | a | b | not yet |", "FLOW-01 (line 3): no test bears its mark"),
        ("| FLOW-01 |  | b | left out: why |", "FLOW-01 (line 3): a cell is empty"),
        ("", "FLOW-01 is not on the page"),
        ("", "FLOW-77, the mark of tests/x.py::test_it, is not on the page"),
    ],
)
def test_what_is_wrong_is_told(line: str, told: str) -> None:
    found = problems(HEAD + line + "\n", {"FLOW-77": ["tests/x.py::test_it"]})
    assert any(each.startswith(told) for each in found)


def test_a_row_that_is_in_order_is_not_told_of() -> None:
    text = f"{HEAD}| FLOW-01 | a | b | `t::one` |\n| AOS-01 | a | b | left out: why |\n"
    told = " ".join(problems(text, {"FLOW-01": ["t::one"]}))
    assert not {"FLOW-01", "AOS-01"} & set(told.split())


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Make a folder with one row, one test with its mark, and a page that names another test."""
    marks(
        tmp_path, '@pytest.mark.row("FLOW-01")\ndef test_one(): ...\n@pytest.mark.row("FLOW-01")\ndef test_two(): ...'
    )
    page = tmp_path / "page.md"
    page.write_text(f"{HEAD}| FLOW-01 | a | b | `tests/test_it.py::test_of_yore` |\n", encoding="utf-8")
    for name, value in {"ROOT": tmp_path, "PAGE": page, "IDS": {"FLOW-01"}}.items():
        monkeypatch.setattr(f"tests.docs.rows.{name}", value)
    return page


def test_the_command_writes_the_page(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert place.read_text(encoding="utf-8").endswith(
        "| FLOW-01 | a | b | `tests/test_it.py::test_one`<br>`tests/test_it.py::test_two` |\n"
    )
    assert capsys.readouterr().out == "page.md was written\n"
    assert main(["--check"]) == main([]) == 0
    assert capsys.readouterr() == ("", "")


def test_the_command_checks_the_page(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = place.read_text(encoding="utf-8")
    assert main(["--check"]) == 1
    assert "run tools/rows" in capsys.readouterr().err
    assert place.read_text(encoding="utf-8") == before
    place.write_text(before + "| FLOW-02 | a | b | left out: why |\n", encoding="utf-8")
    assert main([]) == 1
    assert "there is no such row" in capsys.readouterr().err


@pytest.mark.usefixtures("place")
def test_the_command_tells_the_tests_of_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["FLOW-01"]) == 0
    assert capsys.readouterr().out == "FLOW-01\n  tests/test_it.py::test_one\n  tests/test_it.py::test_two\n"
    assert main(["FLOW-01", "FLOW-02"]) == 1
    assert "FLOW-02\n  no test\n" in capsys.readouterr().out


@pytest.mark.usefixtures("place")
def test_the_command_tells_of_a_mark_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tests/test_it.py").write_text("@pytest.mark.row(ROW)\ndef test_one(): ...", encoding="utf-8")
    assert main([]) == 1
    assert capsys.readouterr().err == "tests/test_it.py, line 1: name rows by their ids, not 'ROW'\n"
