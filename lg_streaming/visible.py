"""Text from elsewhere, made safe to print on a terminal and to write into a log."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["escape_controls", "escape_line"]

_CONTROLS: Final = (
    r"\x00-\x08\x0b-\x1f"  # C0, but the tab and the line break: escape sequences begin with \x1b
    r"\x7f-\x9f"  # DEL and C1: \x9b begins an escape sequence too
    r"\u2028\u2029"  # line and paragraph separators
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"  # marks, embeddings, overrides and isolates of bidirectional text
    r"\ufff9-\ufffb"  # hidden annotations
    r"\ud800-\udfff"  # halves of characters, which no terminal can be sent
)
_HIDDEN: Final = re.compile(f"[{_CONTROLS}]")
_HIDDEN_OR_BREAK: Final = re.compile(f"[\t\n{_CONTROLS}]")


def escape_controls(text: str) -> str:
    r"""Return ``text`` with every control code as its escape, such as ``\x1b`` or ``\u202e``.

    Tabs and line breaks stay; a Windows line break (CR LF) becomes a line break. The result has no other C0 control
    code, no C1 code, no DEL, no line or paragraph separator, no control of bidirectional text, and no half of a
    character. A terminal shows it and obeys nothing in it.
    """
    if "\r\n" in text:
        text = text.replace("\r\n", "\n")
    return _HIDDEN.sub(_escape, text)


def escape_line(text: str) -> str:
    r"""Return ``text`` as `visible` does, with ``\t`` and ``\n`` in place of tabs and line breaks as well."""
    return _HIDDEN_OR_BREAK.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    return found.group().encode("unicode_escape").decode()
