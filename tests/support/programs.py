"""Find the test modules that start other programs; `make quick` leaves them out."""

import re

_STARTS = re.compile(
    r"""
    ^ (?: from | import ) \s+ (?:
        multiprocessing | pty | subprocess | tests\.serving\.process | tests\.support\.(?: browser | warm )
    ) \b
    | \b (?: create_subprocess_(?: exec | shell ) | node_(?: client | executable | process ) | serve_process ) \b
    """,
    re.MULTILINE | re.VERBOSE,
)


def starts_programs(source: str) -> bool:
    """Return whether the source of a test module imports or names what starts another program."""
    return _STARTS.search(source) is not None
