"""Find the code blocks of Markdown pages, with the pages' comments on how to test them."""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^(?P<indent>\s*)(?P<marks>`{3,}|~{3,})\s*\{?\s*\.?(?P<language>[\w+-]*)")
_DIRECTIVE = re.compile(r"^\s*<!--\s*docs-test:\s*(?P<word>continue|compile)\b[,:]?\s*(?P<reason>.*?)\s*-->\s*$")
_ANY_DIRECTIVE = re.compile(r"^\s*<!--\s*docs-test\b")


class PageError(Exception):
    """A page has a fence or a directive that cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced code block.

    Attributes:
        page: The Markdown file.
        line: The line of its first line of code, from 1.
        language: In lower case; empty when the fence names none.
        directive: `continue`, `compile` or empty.
        reason: What the directive gives as its reason.
        code: The text without the fence and its indentation.
    """

    page: Path
    line: int
    language: str
    directive: str = ""
    reason: str = ""
    code: str


def blocks_of(page: Path) -> Iterator[Block]:
    """The blocks of a page, in order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    directive: re.Match[str] | None = None
    index = 0
    while index < len(lines):
        line = lines[index]
        if opening := _FENCE.match(line):
            end = _end_of(lines, index, opening["marks"], page)
            yield Block(
                page=page,
                line=index + 2,
                language=opening["language"].lower(),
                directive=directive["word"] if directive else "",
                reason=directive["reason"] if directive else "",
                code=textwrap.dedent("\n".join(lines[index + 1 : end])) + "\n",
            )
            index, directive = end, None
        elif found := _DIRECTIVE.match(line):
            directive = found
        elif _ANY_DIRECTIVE.match(line) or (directive and line.strip()):
            msg = f"{page.name}:{index + 1}: a docs-test directive is wrong, or no code block follows it"
            raise PageError(msg)
        index += 1


def _end_of(lines: list[str], opening: int, marks: str, page: Path) -> int:
    closing = re.compile(rf"^\s*{marks[0]}{{{len(marks)},}}\s*$")
    for index in range(opening + 1, len(lines)):
        if closing.match(lines[index]):
            return index
    msg = f"{page.name}:{opening + 1}: this code block has no end"
    raise PageError(msg)
