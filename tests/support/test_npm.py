"""Packages of npm: installed once, complete or not there, with errors that name the cause. npm is a stand-in here."""

import os
import re
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.support import npm
from tests.support.node import NodeError
from tests.support.npm import Check, NpmError, installed, run_checks

FAKE = """#!/bin/sh
echo "$PWD $*" >> "$HOME/calls"
while [ -n "$NPM_WAITS" ] && [ ! -e "$NPM_WAITS" ]; do sleep 0.01; done
[ -z "$NPM_SAYS" ] || { echo "$NPM_SAYS"; exit 1; }
mkdir -p node_modules/kept && echo 'export const answer = 42;' > node_modules/kept/index.js
echo '{"name": "kept", "type": "module", "main": "index.js"}' > node_modules/kept/package.json
"""
SCRIPT = """
import { answer } from "kept";
import { half } from "./half.mjs";
console.log("a line of a library");
console.log(JSON.stringify({ check: "answer", passed: answer === 42, detail: { answer } }));
console.log(JSON.stringify({ check: "half", passed: half(answer) === 20, detail: "21" }));
console.log(JSON.stringify({ check: "other", passed: false, skipped: `not with ${process.argv[2]}` }));
if (process.argv[2] === "hang") setInterval(() => {}, 1000);
process.exitCode = process.argv[2] === "fail" ? 3 : 0;
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder, and an npm that installs one package."""
    fake = tmp_path / "bin" / "npm"
    fake.parent.mkdir()
    fake.write_text(FAKE)
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{fake.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(npm, "uncaptured", nullcontext)
    return tmp_path / "cache"


def calls(cache: Path) -> int:
    path = cache.parent / "calls"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_each_set_of_versions_is_installed_once_in_a_folder_of_the_cache(cache: Path) -> None:
    first = installed("a", {"kept": "1.0.0", "more": "2.0.0"})
    assert installed("a", {"more": "2.0.0", "kept": "1.0.0"}) == first
    assert first.is_relative_to(cache)
    assert (first / "node_modules/kept").is_dir()
    assert installed("a", {"kept": "1.0.1"}) != first
    assert installed("a", {"kept": "1.0.1"}, overrides={"x": "1.0.0"}) != installed("a", {"kept": "1.0.1"})
    assert calls(cache) == 3


def test_workers_that_want_the_same_wait_for_one_installation(cache: Path) -> None:
    with ThreadPoolExecutor(4) as workers:
        folders = list(workers.map(installed, ["a"] * 4, [{"kept": "1.0.0"}] * 4))
    assert len(set(folders)) == 1
    assert calls(cache) == 1


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("npm error code EAI_AGAIN", "a needs the network once, to install kept@1.0.0"),
        ("npm error code ETARGET", "npm cannot install kept@1.0.0:\nnpm error code ETARGET"),
    ],
)
def test_a_failure_names_its_cause_and_leaves_no_folder(
    cache: Path, monkeypatch: pytest.MonkeyPatch, output: str, expected: str
) -> None:
    monkeypatch.setenv("NPM_SAYS", output)
    with pytest.raises(NpmError, match=re.escape(expected)):
        installed("a", {"kept": "1.0.0"})
    assert [path.name for path in (cache / "lg-streaming-tests/npm").iterdir() if path.is_dir()] == []
    monkeypatch.delenv("NPM_SAYS")
    assert (installed("a", {"kept": "1.0.0"}) / "node_modules/kept").is_dir()


def test_a_version_has_to_be_exact(cache: Path) -> None:
    with pytest.raises(NpmError, match=re.escape("exact: kept@^1.0.0")):
        installed("a", {"kept": "^1.0.0"})
    assert calls(cache) == 0


def test_a_long_installation_prints_its_progress(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    go_on = cache.parent / "go on"
    monkeypatch.setenv("NPM_WAITS", str(go_on))
    printed = npm.progress

    def progress(text: str) -> None:
        printed(text)
        if text.startswith("still"):
            go_on.touch()

    monkeypatch.setattr(npm, "PROGRESS", 0.0)
    monkeypatch.setattr(npm, "progress", progress)
    installed("a", {"kept": "1.0.0"})
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "installing a: kept@1.0.0"
    assert len(lines) > 1
    assert all(re.fullmatch(r"still installing a \(\d+ s\)", line) for line in lines[1:])


@pytest.fixture
def script(tmp_path: Path) -> Path:
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "half.mjs").write_text("export const half = (number) => number / 2;")
    (folder / "check.mjs").write_text(SCRIPT)
    return folder / "check.mjs"


async def test_a_script_with_packages_of_the_cache_gives_its_checks(cache: Path, script: Path) -> None:
    packages = installed("a", {"kept": "1.0.0"})
    checks = await run_checks(script, "this", packages=packages)
    assert checks["answer"] == Check("answer", passed=True, detail='{"answer": 42}')
    assert checks["half"] == Check("half", passed=False, detail="21")
    assert checks["other"].skipped == "not with this"
    assert checks["the script ends"].passed
    assert checks.output == "a line of a library\n"
    assert not list(packages.glob("run-*"))
    with pytest.raises(NodeError, match="no check 'none':\na line of a library"):
        checks["none"]


@pytest.mark.parametrize(("argument", "expected"), [("fail", "it ended with 3"), ("hang", "it did not end within 2 s")])
async def test_the_end_of_a_script_is_a_check(cache: Path, script: Path, argument: str, expected: str) -> None:
    checks = await run_checks(script, argument, packages=installed("a", {"kept": "1.0.0"}), timeout=2)
    assert checks["answer"].passed
    assert not checks["the script ends"].passed
    assert checks["the script ends"].detail.startswith(expected)


async def test_without_packages_the_script_runs_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "check.mjs").write_text("console.log(JSON.stringify({ check: process.cwd(), passed: true }));")
    checks = await run_checks(tmp_path / "check.mjs", node=shutil.which("node"))
    assert checks[str(tmp_path)].passed


async def test_missing_packages_are_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text("{}")
    (tmp_path / "checks.mjs").write_text('import "left-out";')
    with pytest.raises(NodeError, match="make js"):
        await run_checks(tmp_path / "checks.mjs")
