"""Find the test modules that start other programs; `make quick` leaves them out."""

import re
from collections.abc import Callable, Iterable
from itertools import chain, groupby, zip_longest
from typing import TypeVar

T = TypeVar("T")

_STARTS = re.compile(
    r"""
    ^ (?: from | import ) \s+ (?:
        multiprocessing | pty | subprocess | tests\.serving\.process | tests\.deploy\.\w+
        | tests\.support (?: \. | \s+ import \s+ (?: \w+ , \s )* ) (?: browser | forks | warm )
    ) \b
    | \b (?:
        create_subprocess_(?: exec | shell ) | runpytest_subprocess
        | node_(?: client | executable | process ) | serve_process
        | shared_redis | redis_(?: server | tls | cluster | pair )
    ) \b
    """,
    re.MULTILINE | re.VERBOSE,
)


def starts_programs(source: str) -> bool:
    """Return whether the source of a test module imports or names what starts another program."""
    return _STARTS.search(source) is not None


def alternated(items: Iterable[T], *, module: Callable[[T], object], starts: Callable[[T], bool]) -> list[T]:
    """Return the tests with modules that start programs and other modules in turn, each module whole.

    Workers then wait for programs while others compute, and the last modules are short ones.
    """
    kinds: dict[bool, list[list[T]]] = {True: [], False: []}
    for _, group in groupby(items, module):
        tests = list(group)
        kinds[starts(tests[0])].append(tests)
    nothing: list[T] = []
    pairs = zip_longest(kinds[True], kinds[False], fillvalue=nothing)
    return list(chain.from_iterable(chain.from_iterable(pairs)))
