"""The check of prose finds each breach of its rule, and leaves code, tables and clean text alone."""

import importlib.machinery
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools/check-prose"
LONG = "A reader reads " + "one word and " * 8 + "stops."


@pytest.fixture(scope="module")
def tool() -> Any:
    loader = importlib.machinery.SourceFileLoader("check_prose", str(TOOL))
    spec = importlib.util.spec_from_loader("check_prose", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


Check = Callable[[str, str], list[str]]


@pytest.fixture
def check(tool: Any, tmp_path: Path) -> Check:
    def check(name: str, text: str) -> list[str]:
        """The findings of a file without its folder."""
        path = tmp_path / name
        path.write_text(text)
        found = [finding for piece in tool.prose_of(path) for finding in tool.findings(piece)]
        return [each.removeprefix(f"{tmp_path}/") for each in found]

    return check


CLEAN_MODULE = '''\
"""A log of updates.

Args:
    size: The number of updates it keeps. A full log drops the oldest.

Raises:
    ValueError: If `size` is negative. `whoever` is code.
"""


def f():
    """Return a value, for example:

        whoever = nobody

    The text goes on.
    """



# A comment of two lines that has fewer words than the rule allows, in each of its sentences.
# The second line begins a new sentence.
x = 1  # ruff: noqa: whoever
said = "whoever"  # a string that is no message
raise ValueError(f"size is a number from 0 on, not {x!r}")
'''
CLEAN_PAGE = """\
# Positions

A reader resumes from its position.
The log keeps `nobody` and
`whatever it
says`. [A link](whoever.md) is its text, as is [`X`][nobody.X].

!!! note "A title of five words"
    This text is no part of the title, and so it begins a sentence with a count of its words that is under the limit.

Position
: The text of a definition, of which the words are counted without the words of the term that the text explains.

- An item of a list ends without a full stop, and is fewer than twenty-five words long all the same
- A second item of the list does the same, and the two of them are not one sentence of forty words

| one cell of ten words that is no full sentence | another cell of ten words that is no full sentence |
|---|---|
| a third cell of ten words that is no sentence | `told` and a last cell of ten words or so |

```text
whoever reads this reads code
```

<!-- whoever reads this reads a comment -->
<div title="nobody">

[whoever]: nobody.md
"""


CLEAN_SCRIPT = """\
// A comment of one line.
const address = "http://whoever"; // the server's address
const text = 'told // told';
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [("clean.js", CLEAN_SCRIPT), ("clean.py", CLEAN_MODULE), ("clean.md", CLEAN_PAGE), ("x.txt", LONG)],
)
def test_clean_text_has_no_finding(check: Check, name: str, text: str) -> None:
    assert check(name, text) == []


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.py", 'x = 1\n"""Whether it is open."""', "a.py:2: a docstring begins with a verb or a noun, not 'Whether'"),
        ("a.py", 'def f():\n    """It is open."""', "a.py:2: a docstring begins with a verb or a noun, not 'It'"),
        ("a.py", '"""One.\n\nRaises:\n    ValueError: When odd."""', "a.py:4: an error is raised 'If ...': "),
        ("a.py", f'"""One.\n\n{LONG}"""', "a.py:3: 28 words in 'A reader reads one word and one word and "),
        ("a.py", "x = 1  # for whoever reads", "a.py:1: not 'whoever' in 'for whoever reads'"),
        ("a.py", "x = 1  # noqa: A1, B2 (it is told)", "a.py:1: not 'told' in '(it is told)'"),
        ("a.py", "x = y  # pyright: ignore[reportX] (told)", "a.py:1: not 'told' in '(told)'"),
        ("a.md", "It is over the limit.", "a.md:1: not 'is over' in 'It is over the limit.'"),
        ("a.py", "# One. For\n# one.\n# For\n# nobody.", "a.py:3: not 'nobody' in 'For nobody.'"),
        ("a.py", 'raise ValueError(f"{x} is told")', "a.py:1: not 'told' in 'is told'"),
        ("a.py", 'self.logger.info("%s is told", x)', "a.py:1: not 'told' in '%s is told'"),
        ("tool", "#!/usr/bin/env python3\n# told", "tool:2: not 'told' in 'told'"),
        ("a.py", '"""One.\n\n    x = 1\n\nIt is told."""', "a.py:5: not 'told' in 'It is told.'"),
        ("a.js", 'f("told"); // is told', "a.js:1: not 'told' in 'is told'"),
        ("a.js", "// One.\n// Nobody.\nf();", "a.js:2: not 'Nobody' in 'Nobody.'"),
        ("a.ts", "/** Whether it is open. */", "a.ts:1: a docstring begins with a verb or a noun, not 'Whether'"),
        ("a.ts", "/**\n * It is told.\n */", "a.ts:2: not 'told' in 'It is told.'"),
        ("sh", "#!/usr/bin/env bash\nsay=1 # is told", "sh:2: not 'told' in 'is told'"),
        ("Makefile", "x := whoever\n# told", "Makefile:2: not 'told' in 'told'"),
        ("a.md", "# What a client says", "a.md:1: not 'says' in '# What a client says'"),
        ("a.md", "One.\n\n| a | b |\n|---|---|\n| c | is told |", "a.md:5: not 'told' in 'is told'"),
        ("a.md", "```text\ncode\n```\n- One.\n- Nobody.", "a.md:5: not 'Nobody' in '- Nobody.'"),
        ("a.md", '!!! note "Title"\n    It is over.', "a.md:2: not 'is over' in 'It is over.'"),
        ("a.md", f"One.\n`code` is one word. {LONG}", "a.md:2: 28 words in 'A reader reads one word and one"),
    ],
)
def test_a_breach_is_found_with_its_line(check: Check, name: str, text: str, found: str) -> None:
    (only,) = check(name, text)
    assert only.startswith(found)


@pytest.mark.parametrize(
    "phrase",
    [
        *["says", "tells", "hears", "stands", "stood", "whatever", "whichever", "somebody", "meanwhile", "goodbyes"],
        *["beside", "of its own", "at all", "there is none", "is over", "gives up", "lets go", "sees to it"],
    ],
)
def test_each_banned_phrase_is_found(check: Check, phrase: str) -> None:
    assert len(check("a.md", f"The reader {phrase}.")) == 1


def test_words_that_contain_a_banned_word_are_allowed(check: Check) -> None:
    assert check("a.md", "The stand-in understands it, and a turn-over exceeds the limit besides an essay.") == []


def returning(text: str) -> Callable[..., str]:
    def git(*_: str) -> str:
        return text

    return git


def test_commit_messages_are_checked(tool: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    log = f"abc1234\nThe log keeps updates\n\nIt is told.\n\0def5678\n{LONG}\n\0"
    monkeypatch.setattr(tool, "_git", returning(log))
    assert tool.main(["--commits", "main..HEAD"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "abc1234:3: not 'told' in 'It is told.'"
    assert lines[1].startswith("def5678:1: 28 words in ")
    assert lines[2] == "2 findings: see 'Prose' in CONTRIBUTING.md"


def test_clean_commit_messages_end_with_nothing(tool: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(tool, "_git", returning("abc1234\nThe log keeps updates\n\0"))
    assert tool.main(["--commits", "main..HEAD"]) == 0
    assert capsys.readouterr().out == ""
