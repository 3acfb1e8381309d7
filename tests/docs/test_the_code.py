"""The page about the code names only paths, classes and methods that exist, and the layers of pyproject.toml."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "lg_streaming"
PAGE = (ROOT / "docs/explanation/the-code.md").read_text(encoding="utf-8")
SPANS = set(re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", PAGE, flags=re.MULTILINE | re.DOTALL)))


def section(heading: str) -> str:
    return PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]


def is_path(span: str) -> bool:
    return re.fullmatch(r"[\w/.-]+(?:/|\.(?:py|js|ts|md|toml))", span) is not None and span != "/"


@pytest.fixture(scope="module")
def members() -> dict[str, set[str]]:
    """The classes of the package with the names of their methods and fields."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                own = {each.name for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
                found.setdefault(node.name, set()).update(own)
    return found


@pytest.mark.parametrize("path", sorted(filter(is_path, SPANS)))
def test_a_path_exists(path: str) -> None:
    assert (PACKAGE / path).exists() or (ROOT / path).exists()


@pytest.mark.parametrize("name", sorted(span for span in SPANS if re.fullmatch(r"[A-Z]\w*[a-z]\w*(?:\.\w+)?", span)))
def test_a_class_or_a_method_exists(name: str, members: dict[str, set[str]]) -> None:
    owner, _, member = name.partition(".")
    assert owner in members
    assert not member or member in members[owner]


def test_every_folder_has_a_sentence() -> None:
    told = set(re.findall(r"^\| `([\w/]+)/` \|", section("Folders"), re.MULTILINE))
    folders = {path.parent for path in PACKAGE.glob("*/__init__.py")} | {
        path.parent for path in PACKAGE.glob("gateway/*/__init__.py")
    }
    assert told == {folder.relative_to(PACKAGE).as_posix() for folder in folders} | {"static"}


def test_every_module_at_the_top_has_a_sentence() -> None:
    told = set(re.findall(r"`(\w+\.py)`", section("Folders")))
    assert told == {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py"}


def test_the_layers_are_those_of_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = (each["layers"] for each in contracts if each["id"] == "layers")
    there = [path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    expected = [sorted(set(re.findall(r"\w+", layer)) & set(there)) for layer in layers]
    rows = re.findall(r"^\| \d+ \| (.*) \|$", section("The layers"), re.MULTILINE)
    assert [sorted(re.findall(r"`(\w+)`", row)) for row in rows] == [layer for layer in expected if layer]


def test_where_to_change_things_has_its_rows() -> None:
    rows = [line for line in section("Where do I change …").splitlines() if line.startswith("| ")]
    assert len(rows) > 25
    assert all(re.search(r"`[\w/.-]+`", row.split(" | ")[1]) for row in rows[1:])
