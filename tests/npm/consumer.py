"""A project that uses the npm package: its compiler's errors, and those that its files promise."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Final

from tests.support.node import node_executable

STRICT: Final = Path(__file__).with_name("strict")

_OPTIONS: Final = {
    "strict": True,
    "exactOptionalPropertyTypes": True,
    "noUncheckedIndexedAccess": True,
    "noPropertyAccessFromIndexSignature": False,
    "verbatimModuleSyntax": True,
    "skipLibCheck": False,
    "noEmit": True,
    "target": "es2022",
    "lib": ["es2022", "dom"],
    "jsx": "react-jsx",
    "types": [],
}
_RESOLUTIONS: Final = {
    "bundler": {"module": "esnext", "moduleResolution": "bundler"},
    "nodenext": {"module": "nodenext", "moduleResolution": "nodenext"},
}

Errors = set[tuple[str, int, str]]
"""Errors of a compiler: file, line and code."""


def write_options(folder: Path, resolution: str) -> None:
    """Write the strictest options of the compiler, and one of its ways to find packages: `bundler` or `nodenext`."""
    options = {**_OPTIONS, **_RESOLUTIONS[resolution]}
    (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "include": ["*.ts", "*.tsx", "src"]}))


def errors_of(folder: Path) -> Errors:
    """Return the errors of the compiler in the project's packages."""
    compiler = folder / "node_modules/typescript/bin/tsc"
    command = [node_executable(), compiler, "--pretty", "false", "-p", folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    found = re.findall(r"^(\S+?)\((\d+),\d+\): error (TS\d+):", done.stdout, re.MULTILINE)
    assert bool(found) == bool(done.returncode), done.stdout + done.stderr
    return {(Path(file).name, int(line), code) for file, line, code in found}


def promised_errors() -> Errors:
    """Return the errors that the lines of wrong.ts name."""
    lines = enumerate((STRICT / "wrong.ts").read_text(encoding="utf-8").splitlines(), 1)
    return {("wrong.ts", number, found[1]) for number, line in lines if (found := re.search(r"// (TS\d+)$", line))}
