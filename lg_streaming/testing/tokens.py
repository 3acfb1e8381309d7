"""Cut a text into pieces that look like a model's tokens."""

import re

_TOKEN = re.compile(r"\s*\S{1,8}|\s+")


def split_tokens(text: str) -> list[str]:
    """Cut `text` into pieces of at most eight visible characters; a word keeps the space before it.

    The pieces joined give exactly `text`. An empty text has no pieces.
    """
    return _TOKEN.findall(text)
