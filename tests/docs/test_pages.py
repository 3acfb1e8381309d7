"""Forms of the pages: lines of code that fit, and one place in the reference for each public name."""

import re
from collections import Counter
from pathlib import Path

import pytest

import lg_streaming

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MOST_COLUMNS = 88


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_of_code_fit(page: Path) -> None:
    inside = False
    long: list[str] = []
    for line in page.read_text(encoding="utf-8").splitlines():
        if re.match(r"\s*(```|~~~)", line):
            inside = not inside
        elif inside and len(line) > MOST_COLUMNS:
            long.append(line)
    assert long == []


def test_each_public_name_has_one_page_in_the_reference() -> None:
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs/reference").glob("*.md"))
    blocks = re.findall(r"^::: lg_streaming\n(?:    .*\n)*?      members: \[(.*)\]", pages, re.MULTILINE)
    listed = Counter(name for block in blocks for name in block.split(", "))
    missing = {"StreamingError"}  # the page of errors has it, with all others
    assert listed == Counter(set(lg_streaming.__all__) - missing)
