"""The finder of code blocks misses none and reads the comment on each."""

from pathlib import Path

import pytest

from tests.docs.fences import PageError, blocks_of

PAGE = """\
# Title

```python title="a.py"
x = 1
```

<!-- docs-test: continue -->
```python
x += 1
```

=== "Tab"

    <!-- docs-test: compile, needs a browser -->

    ~~~js
    if (a) {
      b();
    }
    ~~~

````markdown
```python
not a block of its own
```
````

```
plain
```
"""


def test_blocks_have_their_line_language_directive_and_code(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    found = [(b.line, b.language, b.directive, b.reason, b.code) for b in blocks_of(page)]
    assert found == [
        (4, "python", "", "", "x = 1\n"),
        (9, "python", "continue", "", "x += 1\n"),
        (17, "js", "compile", "needs a browser", "if (a) {\n  b();\n}\n"),
        (23, "markdown", "", "", "```python\nnot a block of its own\n```\n"),
        (29, "", "", "", "plain\n"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "```python\nx = 1\n",
        "<!-- docs-test: ignore -->\n```python\nx\n```\n",
        "<!-- docs-test: continue -->\nWords in between.\n",
    ],
)
def test_what_cannot_be_read_is_said(text: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(PageError, match=r"page\.md:\d"):
        list(blocks_of(page))
