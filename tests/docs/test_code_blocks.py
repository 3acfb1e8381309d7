"""Every code block of README.md and docs/ does what a reader expects of it.

- `python` blocks run, each in a fresh interpreter in an empty folder. `await` at the top level is allowed, as in a
  notebook. A comment on the line before the block changes that:
    - `<!-- docs-test: continue -->`: it runs after the python blocks before it on the same page, in the same
      interpreter, back to the last one without this comment;
    - `<!-- docs-test: compile, needs a browser -->`: it is only compiled. The reason is obligatory.
- `bash`, `sh`, `shell` and `console` blocks are not run: each `make X` must be a target of the Makefile, each
  `python -m lg_streaming X` and `lg-streaming X` a command.
- `json` blocks are valid JSON, `js`, `javascript` and `html` blocks (their scripts) are valid JavaScript modules,
  `toml` blocks are valid TOML.
- Blocks in any other language, or in none, are left alone.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.docs.fences import Block, blocks_of

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [block for page in PAGES if page.exists() for block in blocks_of(page)]
TIMEOUT = 60.0

PYTHON = {"py", "python"}
SHELL = {"bash", "console", "sh", "shell"}
JAVASCRIPT = {"html", "javascript", "js"}
PARSERS = {"json": json.loads, "toml": tomllib.loads}
CHECKED = PYTHON | SHELL | JAVASCRIPT | PARSERS.keys()

SCRIPT = re.compile(r"<script\b([^>]*)>(.*?)</script>", re.DOTALL | re.IGNORECASE)
# What follows `make` on its line, an ARGS="..." of several words taken out as one.
MAKE = re.compile(r"(?:^|[;&|]|\$ )\s*(?:\w+=\S+\s+)*make((?:[ \t]+(?:\w+=(?:\"[^\"]*\"|\S+)|[\w-]+))*)", re.MULTILINE)
TARGET = re.compile(r"[a-z]+")
COMMAND = re.compile(r"(?:python3? -m lg_streaming|lg-streaming)[ \t]+([a-z][\w-]*)")

# Runs a file of which each block lies at the line it has on its page, so that a traceback points into the page.
RUNNER = """
import ast, asyncio, inspect, sys, types
page, path = sys.argv[1:]
source = open(path, encoding="utf-8").read()
code = compile(source, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
module = types.ModuleType("__main__")
module.__file__ = page
sys.modules["__main__"] = module
if code.co_flags & inspect.CO_COROUTINE:
    asyncio.run(types.FunctionType(code, module.__dict__)())
else:
    exec(code, module.__dict__)
"""


def name_of(block: Block) -> str:
    return f"{block.page.relative_to(ROOT)}:{block.line}"


def is_run(block: Block) -> bool:
    return block.language in PYTHON and block.directive != "compile"


def program_of(block: Block) -> str:
    """The block, after those it continues, each at its own line."""
    chain = [block]
    if block.directive == "continue":
        earlier = [other for other in BLOCKS if is_run(other) and other.page == block.page and other.line < block.line]
        for other in reversed(earlier):
            chain.insert(0, other)
            if other.directive != "continue":
                break
    text = ""
    for part in chain:
        text += "\n" * (part.line - 1 - text.count("\n")) + part.code
    return text


def run_python(block: Block, folder: Path) -> subprocess.CompletedProcess[str]:
    folder.mkdir()
    program = folder / "block.py"
    program.write_text(program_of(block), encoding="utf-8")
    work = folder / "work"
    work.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LG_STREAMING_")}
    return subprocess.run(
        [sys.executable, "-c", RUNNER, str(block.page), str(program)],
        cwd=work,
        env={**environment, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


Runs = dict[str, Future[subprocess.CompletedProcess[str]]]


def name_of_test(block: Block) -> str:
    return f"test_block[{name_of(block)}]"


@pytest.fixture(scope="session")
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """The selected python blocks, started ahead of their tests on all cores."""
    folder = tmp_path_factory.mktemp("blocks")
    selected = {item.name for item in request.session.items}
    blocks = [block for block in BLOCKS if is_run(block) and name_of_test(block) in selected]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {name_of(block): pool.submit(run_python, block, folder / str(n)) for n, block in enumerate(blocks)}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in CHECKED], ids=name_of)
def test_block(block: Block, runs: Runs, tmp_path: Path) -> None:
    if block.language in SHELL:
        check_commands(block)
    elif block.language in JAVASCRIPT:
        check_javascript(block, tmp_path)
    elif block.language in PARSERS:
        PARSERS[block.language](block.code)
    elif is_run(block):
        result = runs[name_of(block)].result()
        assert result.returncode == 0, f"{name_of(block)} failed:\n{result.stdout}{result.stderr}"
    else:
        assert block.reason, "say why the block is not run: <!-- docs-test: compile, needs a browser -->"
        compile(block.code, name_of(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def check_javascript(block: Block, folder: Path) -> None:
    node = shutil.which("node")
    assert node, "node is not installed: `make test` installs it"
    scripts = SCRIPT.findall(block.code) if block.language == "html" else [("", block.code)]
    for number, (attributes, script) in enumerate(scripts):
        if 'type="importmap"' in attributes:
            json.loads(script)
            continue
        module = folder / f"{number}.mjs"
        module.write_text(script, encoding="utf-8")
        result = subprocess.run([node, "--check", str(module)], capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"{name_of(block)}:\n{result.stderr}"


def check_commands(block: Block) -> None:
    code = "\n".join(line.partition(" #")[0] for line in block.code.splitlines())
    words = [word for found in MAKE.findall(code) for word in found.split()]
    targets = {word for word in words if TARGET.fullmatch(word)}
    assert targets <= make_targets()
    commands = set(COMMAND.findall(code))
    assert not commands or commands <= cli_commands()


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def cli_commands() -> set[str]:
    import typer.main

    from lg_streaming.cli.main import app

    return set(getattr(typer.main.get_command(app), "commands", ()))
