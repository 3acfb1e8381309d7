"""`python -m tests.attacks [NAME...]`: mount all attacks, or those with NAME in their name or row, and print a table.

Each file of this folder may have `ATTACKS`, a list of `Attack`. The server is started here, on loopback only. Ends
with 1 when an attack got through.
"""

import argparse
import asyncio
import importlib
import sys
import time
from pathlib import Path

from tests.attacks.attack import Attack, Result, Target
from tests.attacks.server import target

FOLDER = Path(__file__).parent
LONGEST = 90.0
"""Seconds for one attack."""


def known() -> list[Attack]:
    """All attacks of this folder, by row."""
    names = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))
    modules = [
        importlib.import_module(f"tests.attacks.{name}") for name in names if name not in {"app", "attack", "server"}
    ]
    attacks = [attack for module in modules for attack in getattr(module, "ATTACKS", [])]
    return sorted(attacks, key=lambda attack: (int(attack.row) if attack.row.isdigit() else 99, attack.row))


async def mount(attack: Attack, against: Target) -> Result:
    """Mount one attack; what goes wrong with it counts as not held."""
    try:
        async with asyncio.timeout(LONGEST):
            return await attack.run(against)
    except Exception as error:  # noqa: BLE001 (an attack that fails must not end the others)
        return Result(bound="?", seen=f"{type(error).__name__}: {error}", held=False)


async def mount_all(attacks: list[Attack]) -> bool:
    """Mount them one after the other, a server for each; print a row of a table for each."""
    print("| row | attack | bound | what was seen | held | seconds |\n|---|---|---|---|---|---|")
    all_held = True
    for attack in attacks:
        async with target(attack.options, attack.env, secure=attack.secure) as against:
            began = time.monotonic()
            result = await mount(attack, against)
            seconds = time.monotonic() - began
        all_held = all_held and result.held
        held = "yes" if result.held else "**NO**"
        print(f"| {attack.row} | {attack.name} | {result.bound} | {result.seen} | {held} | {seconds:.0f} |", flush=True)
    return all_held


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a row, or a part of a name")
    names: list[str] = parser.parse_args().names
    picked = [a for a in known() if not names or any(n == a.row or (not n.isdigit() and n in a.name) for n in names)]
    if not picked:
        parser.error("there is no such attack")
    return 0 if asyncio.run(mount_all(picked)) else 1


if __name__ == "__main__":
    sys.exit(main())
