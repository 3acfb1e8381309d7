"""Imports of the library in code blocks and examples work in a program that imports nothing else.

They run where all of the library is imported already, so their tests do not show this.
"""

import ast
from collections.abc import Iterator

import lg_streaming
from tests.demo.test_examples import EXAMPLES
from tests.docs.test_code_blocks import BLOCKS, is_run, name_of
from tests.support.forks import run_program

LIBRARY = lg_streaming.__name__
SOURCES = {
    **{name_of(block): block.code for block in BLOCKS if is_run(block)},
    **{path.name: path.read_text(encoding="utf-8") for path in EXAMPLES.glob("*.py")},
}

FIRST = """
import importlib, json, os, sys, traceback

for name in [name for name in sys.modules if name.partition(".")[0] == "lg_streaming"]:
    del sys.modules[name]
failed = []
for name in sys.argv[1:]:
    if (pid := os.fork()) == 0:
        try:
            importlib.import_module(name)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        failed.append(name)
assert not failed, failed
print(json.dumps(len(sys.argv) - 1))
"""


def is_of_the_library(module: str | None) -> bool:
    return module is not None and module.partition(".")[0] == LIBRARY


def imported_from(source: str) -> Iterator[str]:
    """Each module whose import makes what `from … import …` of the library names."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST
    for node in ast.walk(compile(source, "source", "exec", flags=flags)):
        if isinstance(node, ast.ImportFrom) and node.module == LIBRARY:
            yield from (getattr(lg_streaming, alias.name).__module__ for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and is_of_the_library(node.module):
            assert node.module is not None
            yield node.module


def names_modules(source: str) -> bool:
    """Return whether it reaches parts of the library as attributes of modules, which others may have imported."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST
    nodes = ast.walk(compile(source, "source", "exec", flags=flags))
    aliases = [alias for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return any(is_of_the_library(alias.name) and alias.asname is None for alias in aliases)


def test_each_module_can_be_the_first() -> None:
    modules = sorted({module for source in SOURCES.values() for module in imported_from(source)})
    assert len(modules) > 15
    assert run_program(FIRST, *modules) == len(modules)


def test_parts_are_imported_by_name() -> None:
    assert [name for name, source in SOURCES.items() if names_modules(source)] == []
    assert names_modules("import lg_streaming.sinks\nlg_streaming.client.SSEClient()")
    assert not names_modules("import lg_streaming.sinks as s\nfrom lg_streaming.client import SSEClient")
