"""Names of the checks in a script of `js/`."""

import re
from pathlib import Path

JS = Path(__file__).parent / "js"


def names(script: str) -> list[str]:
    """Return the names of a script's checks, which are the methods of its object `checks`."""
    text = (JS / script).read_text(encoding="utf-8")
    body = text[text.index("const checks = {") :]
    return [quoted or plain for quoted, plain in re.findall(r'^  async (?:"([^"]+)"|(\w+))\(', body, re.MULTILINE)]
