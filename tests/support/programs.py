"""Order the test modules, and find those that start other programs; `make quick` leaves them out."""

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, groupby, zip_longest
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

LONG = (
    "serving/test_workers.py",
    "fleet/test_hop.py",
    "gateway/test_frames_flood.py",
    "gateway/test_faults.py",
    "gateway/test_socketio.py",
    "browser/test_react.py",
    "watch/test_run_page.py",
    "deploy/test_deployment.py",
    "deploy/test_worker.py",
    "deploy/test_worker_ends.py",
    "docs/test_site.py",
    "hub/test_lifecycle.py",
    "watch/test_two_processes.py",
    "watch/test_safety.py",
    "watch/test_list.py",
    "cli/test_watch.py",
    "npm/test_package.py",
)
"""Modules that take longer than 15 seconds, by folder and name, the longest first."""

_STARTS = re.compile(
    r"""
    ^ (?: from | import ) \s+ (?:
        multiprocessing | pty | subprocess | tests\.serving\.process | tests\.deploy\.\w+
        | tests\.support (?: \. | \s+ import \s+ (?: \w+ , \s )* ) (?: browser | forks | npm | terminal | warm )
    ) \b
    | \b (?:
        create_subprocess_(?: exec | shell ) | runpytest_subprocess
        | node_(?: client | executable | process ) | serve_process
        | shared_redis | shared_postgres | postgres_server | redis_(?: server | tls | cluster | pair )
    ) \b
    """,
    re.MULTILINE | re.VERBOSE,
)


def starts_programs(source: str) -> bool:
    """Return whether the source of a test module imports or names what starts another program."""
    return _STARTS.search(source) is not None


def ordered(
    items: Iterable[T], *, module: Callable[[T], Path], starts: Callable[[T], bool], long: Sequence[str] = LONG
) -> list[T]:
    """Return the tests in the order in which workers take their modules, each module whole.

    The long modules come first, so that none is left at the end for one worker. Then come modules that start programs
    and other modules in turn: workers wait for programs while others compute.
    """
    first: dict[str, list[T]] = {}
    kinds: dict[bool, list[list[T]]] = {True: [], False: []}
    for path, group in groupby(items, module):
        tests = list(group)
        name = "/".join(path.parts[-2:])
        if name in long:
            first[name] = tests
        else:
            kinds[starts(tests[0])].append(tests)
    nothing: list[T] = []
    pairs = zip_longest(kinds[True], kinds[False], fillvalue=nothing)
    return list(chain.from_iterable([*(first[name] for name in long if name in first), *chain.from_iterable(pairs)]))
