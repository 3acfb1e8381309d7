"""Every package that the library imports is declared, with a lower bound: `make lowest` runs the tests on it."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from typing import Any

from tests.support.server import ROOT

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_OF_THE_CALLER = {"pytest"}
"""`lg_streaming.pytest_plugin` is imported by pytest itself."""


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements() -> list[str]:
    found = project()
    return [*found["dependencies"], *(each for extra in found["optional-dependencies"].values() for each in extra)]


def declared() -> set[str]:
    return {normal(match[0]) for each in requirements() if (match := _NAME.match(each)) is not None}


def imported() -> dict[str, str]:
    """The top-level packages that are imported anywhere in the library, and one file that does."""
    found: dict[str, str] = {}
    for file in sorted((ROOT / "lg_streaming").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module is not None:
                names = [node.module]
            for name in names:
                found.setdefault(name.partition(".")[0], str(file.relative_to(ROOT)))
    return found


def test_every_imported_package_is_declared() -> None:
    known, distributions = declared(), packages_distributions()
    others = imported().keys() - sys.stdlib_module_names - {"lg_streaming"} - _OF_THE_CALLER
    assert {"jwt", "websockets", "engineio", "cryptography", "pydantic_core"} <= others
    missing = {
        name: imported()[name]
        for name in others
        if not {normal(each) for each in distributions.get(name, [name])} & known
    }
    assert not missing


def test_every_declared_package_has_a_lower_bound() -> None:
    others = [each for each in requirements() if not each.startswith("lg-streaming")]
    assert "pyjwt[crypto]>=2.12,<3" in others
    assert [each for each in others if not re.match(r"[\w.-]+(\[[\w,-]+\])?(>=|==)\d", each)] == []
