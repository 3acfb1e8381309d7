"""Lua scripts that run in Redis."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path
from typing import Final

__all__ = ["APPEND", "DROP", "HEADS", "HELD", "READ", "RENEW", "Script"]

_FOLDER: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Script:
    """Lua script, and the digest by which Redis knows it."""

    text: str
    sha: str

    @classmethod
    def load(cls, name: str) -> Script:
        """Return the script of a file in this folder."""
        text = (_FOLDER / name).read_text(encoding="utf-8")
        return cls(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


APPEND: Final = Script.load("append.lua")
READ: Final = Script.load("read.lua")
HEADS: Final = Script.load("heads.lua")
DROP: Final = Script.load("drop.lua")
HELD: Final = Script.load("held.lua")
RENEW: Final = Script.load("renew.lua")
