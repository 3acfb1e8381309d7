"""After a fork everything with a thread begins anew: each module that starts one registers for it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import lg_streaming

ROOT = Path(lg_streaming.__file__).parent
STARTS_A_THREAD = {"Thread", "Timer", "ThreadPoolExecutor", "IoThread"}
SHORT = {
    "pytest_plugin.py": "is joined by the fixture that starts it",
    "notebook/display.py": "reads a run for one cell of a notebook, whose kernel does not fork",
    "cli/replay.py": "opens a browser, in a command that does not fork",
    "capture/yields.py": "ends a run that the garbage collector found, at once",
}


def calls(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func
            yield name.attr if isinstance(name, ast.Attribute) else name.id if isinstance(name, ast.Name) else ""


def test_each_class_with_a_thread_registers_for_a_fork() -> None:
    found: dict[str, set[str]] = {}
    for path in ROOT.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for each in tree.body:
            module = path.relative_to(ROOT).as_posix()
            if STARTS_A_THREAD & set(calls(each)) and not module.startswith("testing/"):
                found.setdefault(module, set())
                if not {"restart_after_fork", "register_at_fork"} & set(calls(tree)):
                    found[module].add(getattr(each, "name", "?"))
    assert SHORT.keys() == {module for module, without in found.items() if without}
    assert {"hub/buffered_writer.py", "sinks/worker.py", "timer.py"} <= found.keys()
