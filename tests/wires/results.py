"""The table of checks that each version of another system's client passes: collected from tests, written into the docs.

A test calls the fixture `tested` before it asserts. `make wires` runs all that do, also those of `make test`:

    @pytest.mark.parametrize("version", VERSIONS)
    def test_approval(version, tested):
        tested("ai-sdk", "ai", version, "an approval, granted and denied")
        ...

The test's own outcome counts, and `pytest.skip(reason)` becomes a note. A test of many checks gives each outcome as
`passed` or `skipped`. Several results of one cell are counted: `3 of 4`. Checks that pass in each version of a client
share a row, and are named below the table.
"""

import json
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import pytest

from tests.support.npm import SCRIPT_ENDS, Check

__all__ = ["Collector", "Result", "Tested", "replaced", "tables"]

PROPERTY = "tested client"
FEW = 3
"""Checks that pass in each version have a row each, if there are no more."""
Wire = Literal["ai-sdk", "langgraph", "ag-ui", "durable-streams"]


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of a check of one version of a client.

    `detail` names in few words what fails, `skipped` why the check cannot be. Both go into the docs, so neither has a
    date, an address or a time.
    """

    wire: str
    client: str
    version: str
    check: str
    passed: bool | None = None
    """None: as the test."""
    detail: str = ""
    skipped: str = ""
    order: int = 0
    """The test's number in its run."""


class Tested(Protocol):
    """Type of the fixture `tested`."""

    def __call__(
        self,
        wire: Wire,
        client: str,
        version: str,
        check: str | Check,
        *,
        passed: bool | None = None,
        detail: str = "",
        skipped: str = "",
    ) -> None: ...


def recorder(node: pytest.Item) -> Tested:
    """Return the fixture `tested` of a test."""

    def tested(
        wire: Wire,
        client: str,
        version: str,
        check: str | Check,
        *,
        passed: bool | None = None,
        detail: str = "",
        skipped: str = "",
    ) -> None:
        if isinstance(check, Check):
            if check.name == SCRIPT_ENDS and check.passed:
                return
            passed, skipped, check = check.passed or None, check.skipped, check.name
        order = node.session.items.index(node)
        result = Result(wire, client, version, check, passed, detail, skipped, order)
        node.user_properties.append((PROPERTY, json.dumps(asdict(result))))

    return tested


class Collector:
    """Plugin that collects the results of a run, also from workers, and writes them at its end.

    Args:
        page: The page whose tables are replaced; None prints the tables only.
    """

    def __init__(self, page: Path | None) -> None:
        self._page = page
        self._results: dict[str, list[Result]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.passed:
            return
        found = [Result(**json.loads(str(value))) for name, value in report.user_properties if name == PROPERTY]
        if not found:
            return
        self._results[report.nodeid] = [_with_outcome(result, report) for result in found]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        results = [result for found in self._results.values() for result in found]
        results.sort(key=lambda result: result.order)  # workers report in any order
        if not results:
            return
        terminalreporter.section("tested clients")
        for wire in dict.fromkeys(result.wire for result in results):
            terminalreporter.write_line(tables(result for result in results if result.wire == wire))
        if self._page is not None:
            self._page.write_text(replaced(self._page.read_text(encoding="utf-8"), results), encoding="utf-8")
            terminalreporter.write_line(f"written to {self._page}")


def _with_outcome(result: Result, report: pytest.TestReport) -> Result:
    if report.when == "teardown":
        return replace(result, passed=False, skipped="", detail="leaves something behind")
    if result.skipped or result.passed is not None:
        return result
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
        return replace(result, skipped=reason.removeprefix("Skipped: "))
    return replace(result, passed=report.passed)


def replaced(page: str, results: Sequence[Result]) -> str:
    """Return the page with new tables of each wire that has results; the tables of the others stay."""
    for wire in dict.fromkeys(result.wire for result in results):
        begin, end = f"<!-- tested: {wire} -->\n", f"<!-- end: {wire} -->\n"
        if page.count(begin) != 1 or page.count(end) != 1:
            msg = f"the page needs the lines {begin!r} and {end!r}"
            raise ValueError(msg)
        head, _, rest = page.partition(begin)
        _, _, tail = rest.partition(end)
        page = f"{head}{begin}\n{tables(result for result in results if result.wire == wire)}\n{end}{tail}"
    return page


def tables(results: Iterable[Result]) -> str:
    """Return a table for each client: a row for each check, a column for each version, and notes."""
    clients: dict[str, list[Result]] = {}
    for result in results:
        clients.setdefault(result.client, []).append(result)
    return "\n".join(_table(client, found) for client, found in clients.items())


def _table(client: str, results: Sequence[Result]) -> str:
    versions = sorted({result.version for result in results}, key=_numbers)
    cells: dict[str, dict[str, list[Result]]] = {}
    for result in results:
        cells.setdefault(result.check, {}).setdefault(result.version, []).append(result)
    passed = [check for check, found in cells.items() if len(found) == len(versions) and _all_passed(found.values())]
    shared = passed if len(passed) > FEW else []
    notes: list[str] = []
    lines = [_row([f"`{client}`", *versions]), _row(["---"] * (1 + len(versions)))]
    if shared:
        lines.append(_row([f"{len(shared)} checks", *["yes"] * len(versions)]))
    lines += [
        _row([_escaped(check), *(_cell(found.get(each, []), notes) for each in versions)])
        for check, found in cells.items()
        if check not in shared
    ]
    parts = ["\n".join(lines)]
    if notes:
        parts.append("\n".join(f"{number}. {_escaped(note)}" for number, note in enumerate(notes, 1)))
    if shared:
        parts.append(textwrap.fill(_named({check: cells[check] for check in shared}), 120, break_on_hyphens=False))
    return "\n\n".join(parts) + "\n"


def _all_passed(found: Iterable[Sequence[Result]]) -> bool:
    return all(result.passed and not result.skipped for each in found for result in each)


def _named(checks: dict[str, dict[str, list[Result]]]) -> str:
    """Return a sentence with the names of checks, and the numbers of their cases if there are several."""
    cases = {check: max(map(len, found.values())) for check, found in checks.items()}
    if len(set(cases.values())) == 1:
        each = f", {each} cases each" if (each := max(cases.values())) > 1 else ""
        return f"The {len(checks)} checks{each}: {'; '.join(map(_escaped, checks))}."
    named = (_escaped(check) + (f" ({number} cases)" if number > 1 else "") for check, number in cases.items())
    return f"The {len(checks)} checks: {'; '.join(named)}."


def _cell(results: Sequence[Result], notes: list[str]) -> str:
    held = [result for result in results if not result.skipped]
    passed = sum(result.passed is True for result in held)
    if not results:
        return ""
    if not held:
        text = "-"
    elif len(results) == 1:
        text = "yes" if passed else "**no**"
    else:
        text = f"{passed} of {len(held)}" if passed == len(held) else f"**{passed} of {len(held)}**"
    for note in dict.fromkeys(result.skipped or (result.detail if not result.passed else "") for result in results):
        if note and note not in notes:
            notes.append(note)
        text += f" ({notes.index(note) + 1})" if note else ""
    return text


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("__", "\\_\\_")


def _numbers(version: str) -> list[tuple[int, str]]:
    return [(int(each), "") if each.isdigit() else (-1, each) for each in re.split(r"[.\-+ ]", version)]
