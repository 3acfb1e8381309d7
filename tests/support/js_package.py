"""The npm package of `packages/js`, built in a copy of the files that it is made of."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

from tests.support.node import JS, node_executable

ROOT: Final = Path(__file__).resolve().parents[2]
SOURCE: Final = ROOT / "packages/js"
TIMEOUT: Final = 120.0


def build_package(folder: Path) -> Path:
    """Build the package with the compiler of tests/js below a folder that has the places of the repository."""
    package = folder / "packages/js"
    shutil.copytree(SOURCE, package, ignore=shutil.ignore_patterns("node_modules", "dist", "LICENSE"))
    shutil.copytree(ROOT / "lg_streaming/static", folder / "lg_streaming/static", dirs_exist_ok=True)
    shutil.copy(ROOT / "LICENSE", folder)
    (package / "node_modules").symlink_to(JS / "node_modules")
    run(package, node_executable(), "build.js")
    return package


def unpack(package: Path, node_modules: Path) -> None:
    """Put a built package, and the packages of tests/js, into a folder `node_modules`."""
    node_modules.mkdir()
    for each in (JS / "node_modules").iterdir():
        (node_modules / each.name).symlink_to(each)
    placed = node_modules / "lg-streaming"
    shutil.copytree(package / "dist", placed / "dist")
    shutil.copy(package / "package.json", placed)


def pack(package: Path) -> tuple[Path, list[str]]:
    """Pack a built package as npm does; return the archive, and the paths in it."""
    (packed,) = json.loads(run(package, "npm", "pack", "--json", "--ignore-scripts"))
    return package / packed["filename"], sorted(file["path"] for file in packed["files"])


def manifest() -> dict[str, Any]:
    """Return the `package.json` of the package."""
    return json.loads((SOURCE / "package.json").read_text(encoding="utf-8"))


def run(folder: Path, *command: str | Path) -> str:
    """Run a command in a folder, and return its output; fail if the command does."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))} in {folder}:\n{done.stdout}{done.stderr}"
    return done.stdout
