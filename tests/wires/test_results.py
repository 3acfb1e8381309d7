"""The table of tested clients: from the outcomes of tests to a page."""

from pathlib import Path

import pytest

from tests.wires.results import Result, replaced, tables

PAGE = """# Tested
<!-- tested: ai-sdk -->
old
<!-- end: ai-sdk -->
<!-- tested: ag-ui -->
kept
<!-- end: ag-ui -->
the end"""
CONFTEST = "from tests.wires.conftest import *"
TESTS = """
import pytest

@pytest.fixture
def breaking():
    yield
    assert False

@pytest.mark.parametrize("version", ["10.0.1", "9.1.0"])
def test_passes(tested, version):
    tested("ai-sdk", "ai", version, "text")

def test_fails(tested):
    tested("ai-sdk", "ai", "9.1.0", "a tool | a call", detail="shows the call twice")
    assert False

def test_is_skipped(tested):
    tested("ai-sdk", "ai", "9.1.0", "resume")
    pytest.skip("this version cannot resume")

def test_leaves_something(tested, breaking):
    tested("ai-sdk", "ai", "10.0.1", "abort")

def test_many(tested):
    tested("ai-sdk", "assistant-ui", "1.0.0", "parts", passed=True)
    tested("ai-sdk", "assistant-ui", "1.0.0", "parts", passed=True)
    tested("ai-sdk", "assistant-ui", "1.0.0", "edits", passed=True)
    tested("ai-sdk", "assistant-ui", "1.0.0", "edits", passed=False, detail="loses the branch")
"""
EXPECTED = """# Tested
<!-- tested: ai-sdk -->

| `ai` | 9.1.0 | 10.0.1 |
| --- | --- | --- |
| text | yes | yes |
| a tool \\| a call | **no** (1) |  |
| resume | - (2) |  |
| abort |  | **no** (3) |

1. shows the call twice
2. this version cannot resume
3. leaves something behind

| `assistant-ui` | 1.0.0 |
| --- | --- |
| parts | 2 of 2 |
| edits | **1 of 2** (1) |

1. loses the branch

<!-- end: ai-sdk -->
<!-- tested: ag-ui -->
kept
<!-- end: ag-ui -->
the end"""


@pytest.mark.parametrize(
    "options", [[], pytest.param(["-n2"], marks=pytest.mark.wires)], ids=["one process", "workers"]
)
def test_the_outcomes_of_tests_become_tables_of_their_wire(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", str(root))
    monkeypatch.syspath_prepend(root)
    page = pytester.makefile(".md", page=PAGE)
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_inprocess("-p", "no:langsmith_plugin", *options, f"--tested-clients={page}")
    result.assert_outcomes(passed=4, failed=1, skipped=1, errors=1)
    assert page.read_text() == EXPECTED
    result.stdout.fnmatch_lines(["*tested clients*", "| `ai` | 9.1.0 | 10.0.1 |", "written to *page.md"])


def test_checks_that_pass_everywhere_share_a_row() -> None:
    names = ["text", "stop", "a|b", "edit", "quiet"]
    results = [Result("ag-ui", "client", each, name, passed=True) for each in ("1.0", "2.0") for name in names]
    results += [Result("ag-ui", "client", each, "cases", passed=True) for each in ("1.0", "2.0", "1.0", "2.0")]
    results += [Result("ag-ui", "client", each, "mixed", passed=each == "2.0") for each in ("1.0", "2.0")]
    results += [Result("ag-ui", "client", "2.0", "new", passed=True)]
    results += [Result("ag-ui", "client", "2.0", "quiet", skipped="no reason")]
    assert (
        tables(results)
        == """\
| `client` | 1.0 | 2.0 |
| --- | --- | --- |
| 5 checks | yes | yes |
| quiet | yes | 1 of 1 (1) |
| mixed | **no** | yes |
| new |  | yes |

1. no reason

The 5 checks: text; stop; a\\|b; edit; cases (2 cases).
"""
    )


def test_a_page_without_the_place_of_a_wire_is_refused() -> None:
    with pytest.raises(ValueError, match="tested: langgraph"):
        replaced(PAGE, [Result("langgraph", "sdk", "1.0.0", "text", passed=True)])


def test_the_same_results_give_the_same_page() -> None:
    results = [Result("ag-ui", "client", "0.0.1-rc.2", "text", passed=True)]
    once = replaced(PAGE, results)
    assert replaced(once, results) == once
    assert tables(results) in once


def test_the_page_of_the_docs_has_the_place_of_each_wire() -> None:
    page = (Path(__file__).parents[2] / "docs/guide/front-ends/tested-clients.md").read_text(encoding="utf-8")
    for wire in ("ai-sdk", "langgraph", "ag-ui", "durable-streams"):
        assert tables([Result(wire, "a client", "1", "text", passed=True)]) in replaced(
            page, [Result(wire, "a client", "1", "text", passed=True)]
        )
