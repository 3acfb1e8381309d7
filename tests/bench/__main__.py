"""`python -m tests.bench [--list] [NAME...]`: run the benchmarks, each in a separate interpreter.

Ends with 1 when a target was missed, or when a benchmark failed or printed no line.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
NEEDED = {"name", "ratio", "target", "ok"}
TIMEOUT = 600.0
ON_REQUEST = {"start_langgraph", "wires"}
"""Benchmarks that run only when they are named: they install something."""


def names() -> list[str]:
    """The benchmarks there are, without `bench_` and `.py`."""
    return sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))


def parse(line: str) -> dict[str, Any] | None:
    """The result in a line of output, or None for any other line; ValueError for half a result."""
    if not line.startswith("{"):
        return None
    result: Any = json.loads(line)
    if not isinstance(result, dict) or not result.keys() >= NEEDED:
        msg = f"a result needs {sorted(NEEDED)}: {line!r}"
        raise ValueError(msg)
    return cast("dict[str, Any]", result)


def run(name: str) -> bool:
    """Run one benchmark, print its lines as they come, and return whether all its targets were met."""
    code = f"from tests.bench.bench_{name} import main; main()"
    results: list[dict[str, Any]] = []
    with subprocess.Popen(
        [sys.executable, "-u", "-c", code], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            if result := parse(line):
                results.append(result)
        status = process.wait(TIMEOUT)
    if status != 0 or not results:
        print(f"benchmark {name!r} ended with {status} and {len(results)} results", file=sys.stderr)
    return status == 0 and bool(results) and all(result["ok"] for result in results)


def main() -> int:
    """The command."""
    known = names()
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(known) or 'none yet'}")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(known))
        return 0
    if unknown := set(arguments.names) - set(known):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    if not known:
        parser.error(f"there is no bench_*.py in {FOLDER}")
    # A list, not a generator: a missed target does not keep the others from running.
    met = [run(name) for name in arguments.names or [name for name in known if name not in ON_REQUEST]]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
