"""The page with a row for each feature of other systems, its counterpart here, and the tests that show it.

A test that shows a row bears its id: `@pytest.mark.row("HIVE-29")`. The last column of the page is written from these
marks by `tools/rows`. Where no test bears a row's mark, the cell is written by hand: `left out: why`.
"""

import argparse
import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["IDS", "PAGE", "MarkError", "Row", "main", "marked_tests", "problems", "rows_of", "written"]

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/explanation/row-by-row.md"

# How many rows, and how many mistakes, each system has.
SIZES = {"FLOW": (46, 15), "AOS": (30, 10), "HIVE": (87, 29), "PYEV": (22, 11), "CFLOW": (40, 12)}
IDS = {
    *(f"{system}-{number:02}" for system, (rows, _) in SIZES.items() for number in range(1, rows + 1)),
    *(f"{system}-D{number}" for system, (_, mistakes) in SIZES.items() for number in range(1, mistakes + 1)),
}
# Further tests of a row are counted: `tools/rows ID` has them all.
SHOWN = 3

_ROW = re.compile(r"^\| (?P<id>(?:FLOW|AOS|HIVE|PYEV|CFLOW)-D?\d+) \| .* \|$")


class MarkError(Exception):
    """A mark is at a place without a test, or names its rows in an unreadable way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the page's tables.

    Attributes:
        line: Its line, from 1.
        id: Such as `HIVE-29`; `HIVE-D8` for what goes wrong there.
        cells: The cells between the id and the tests.
        shown_by: The last cell.
    """

    line: int
    id: str
    cells: tuple[str, ...]
    shown_by: str

    @property
    def by_hand(self) -> str:
        """The handwritten text of the last cell: the whole cell, or empty."""
        return self.shown_by if re.match(r"left out: \S", self.shown_by) else ""


# ---------------------------------------------------------------- the marks
def marked_tests(folder: Path) -> dict[str, list[str]]:
    """The tests that bear each id, as pytest names them: `tests/hub/test_runs.py::test_a_run_ends_once`.

    Raises:
        MarkError: If a mark cannot be read.
    """
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("test_*.py")):
        if "node_modules" in path.parts:
            continue
        name = path.relative_to(folder.parent).as_posix()
        for test, ids in _tests_of(ast.parse(path.read_text(encoding="utf-8")).body, name, ()):
            for each in dict.fromkeys(ids):
                found.setdefault(each, []).append(test)
    return found


def _tests_of(body: Sequence[ast.stmt], place: str, inherited: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    for statement in body:
        if _is_pytestmark(statement):
            inherited += tuple(_ids_in(statement, place))
    for statement in body:
        if isinstance(statement, ast.ClassDef):
            own = _ids_of(statement, place)
            yield from _tests_of(statement.body, f"{place}::{statement.name}", (*inherited, *own))
        elif isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)) and statement.name.startswith("test"):
            own = _ids_of(statement, place)
            yield f"{place}::{statement.name}", [*inherited, *own]
        elif not _is_pytestmark(statement) and any(_ids_in(statement, place)):
            raise MarkError(f"{place}, line {statement.lineno}: a mark here marks no test")


def _is_pytestmark(statement: ast.stmt) -> bool:
    match statement:
        case ast.Assign(targets=[ast.Name(id="pytestmark")]):
            return True
        case _:
            return False


def _ids_of(statement: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, place: str) -> list[str]:
    return [row_id for decorator in statement.decorator_list for row_id in _ids_in(decorator, place)]


def _ids_in(tree: ast.AST, place: str) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="row", value=ast.Attribute(attr="mark")), args=args):
                for argument in args:
                    yield from _texts(argument, place)
            case _:
                pass


def _texts(argument: ast.expr, place: str) -> Iterator[str]:
    match argument:
        case ast.Constant(value=str(text)):
            yield text
        case ast.Starred(value=ast.Tuple(elts=texts) | ast.List(elts=texts)):
            for text in texts:
                yield from _texts(text, place)
        case _:
            raise MarkError(f"{place}, line {argument.lineno}: name rows by their ids, not {ast.unparse(argument)!r}")


# ---------------------------------------------------------------- the page
def rows_of(text: str) -> list[Row]:
    """The rows of all tables of the page, in its order."""
    found: list[Row] = []
    for number, line in enumerate(text.splitlines(), 1):
        if _ROW.match(line):
            row_id, *cells, shown_by = (cell.strip() for cell in line[2:-1].split(" |"))
            found.append(Row(line=number, id=row_id, cells=tuple(cells), shown_by=shown_by))
    return found


def written(text: str, tests: Mapping[str, Sequence[str]]) -> str:
    """Return the page with its last column made of the marks."""
    lines = text.splitlines()
    for row in rows_of(text):
        cell = _cell(tests.get(row.id, ()), row.by_hand)
        lines[row.line - 1] = f"| {' | '.join((row.id, *row.cells, cell))} |"
    return "\n".join(lines) + "\n"


def _cell(tests: Sequence[str], by_hand: str) -> str:
    shown = "<br>".join(f"`{test}`" for test in tests[:SHOWN])
    more = len(tests) - SHOWN
    return f"{shown}<br>and {more} more" if more > 0 else shown or by_hand


def problems(text: str, tests: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the errors of the page and the marks, a sentence each."""
    rows = rows_of(text)
    counts = Counter(row.id for row in rows)
    return [
        *(f"{missing} is not on the page" for missing in sorted(IDS - counts.keys())),
        *(f"{row_id} is on the page {count} times" for row_id, count in counts.items() if count > 1),
        *(f"{unknown} is on the page, and there is no such row" for unknown in sorted(counts.keys() - IDS)),
        *(
            f"{mark}, the mark of {bearers[0]}, is not on the page"
            for mark, bearers in tests.items()
            if mark not in counts
        ),
        *(
            f"{row.id} (line {row.line}): no test bears its mark, and it does not say 'left out: why'"
            for row in rows
            if not tests.get(row.id) and not row.by_hand
        ),
        *(f"{row.id} (line {row.line}): a cell is empty" for row in rows if not all(row.cells)),
    ]


# ---------------------------------------------------------------- the command
def main(arguments: Sequence[str]) -> int:
    """Run `tools/rows`, and return the exit status."""
    parser = argparse.ArgumentParser(prog="tools/rows")
    parser.add_argument("ids", nargs="*", metavar="ID", help="tell the tests of these rows, and write nothing")
    parser.add_argument("--check", action="store_true", help="write nothing, and fail where the page is out of date")
    asked = parser.parse_args(arguments)
    try:
        tests = marked_tests(ROOT / "tests")
    except MarkError as error:
        print(error, file=sys.stderr)
        return 1
    if asked.ids:
        for row_id in asked.ids:
            print("\n".join((row_id, *(f"  {test}" for test in tests.get(row_id, ["no test"])))))
        return 0 if tests.keys() >= set(asked.ids) else 1
    text = PAGE.read_text(encoding="utf-8")
    new = written(text, tests)
    wrong = problems(text, tests)
    if asked.check and new != text:
        wrong.append("the tests on the page are not those of the marks: run tools/rows")
    elif new != text:
        PAGE.write_text(new, encoding="utf-8")
        print(f"{PAGE.relative_to(ROOT)} was written")
    for each in wrong:
        print(each, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
