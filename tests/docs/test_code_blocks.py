"""Every code block of README.md, CONTRIBUTING.md and docs/ does what a reader expects of it.

- `python` blocks run, each in a separate process in an empty folder. `await` at the top level is allowed, as in a
  notebook. A comment on the line before the block changes that:
    - `<!-- docs-test: continue -->`: it runs after the python blocks before it on the same page, in the same
      process, back to the last one without this comment;
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
import tomllib
from pathlib import Path

import pytest

from tests.docs.fences import Block, blocks_of
from tests.support import warm

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [block for page in PAGES if page.exists() for block in blocks_of(page)]
NOTEBOOK = Path(__file__).with_name("notebook.py")
TIMEOUT = 60

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


def run_python(block: Block, folder: Path, *, fresh: bool) -> subprocess.CompletedProcess[str]:
    """Run the block from a file in which each block is at the line it has on its page: tracebacks name that line."""
    program = folder / "block.py"
    program.write_text(program_of(block), encoding="utf-8")
    work = folder / "work"
    work.mkdir()
    return warm.run(
        *(str(NOTEBOOK), str(program), str(block.page)),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=work,
        timeout=TIMEOUT,
        fresh=fresh,
    )


FIRST = next(block for block in BLOCKS if is_run(block))


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in CHECKED], ids=name_of)
def test_block(block: Block, tmp_path: Path) -> None:
    if block.language in SHELL:
        check_commands(block)
    elif block.language in JAVASCRIPT:
        check_javascript(block, tmp_path)
    elif block.language in PARSERS:
        PARSERS[block.language](block.code)
    elif is_run(block):
        done = run_python(block, tmp_path, fresh=block is FIRST)
        said = done.stdout + done.stderr
        assert done.returncode == 0, f"{name_of(block)} failed ({done.returncode}):\n{said}"
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
