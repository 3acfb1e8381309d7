"""The stock clients in several versions, their React hooks in jsdom, and assistant-ui."""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import npm
from tests.support.npm import Checks, run_checks
from tests.wires.ai_sdk.checks import JS, names
from tests.wires.ai_sdk.graphs import place

if TYPE_CHECKING:
    from tests.wires.results import Tested

pytestmark = pytest.mark.wires

REACT = {"react": "19.3.1", "react-dom": "19.3.1", "jsdom": "27.2.0", "zod": "4.1.13"}
VERSIONS = ["7.0.173", "7.0.0", "6.0.325", "6.0.0", "5.0.277"]
HOOKS = {"4.0.177": "7.0.173", "3.0.328": "6.0.325"}
"""Versions of `@ai-sdk/react`, and that of `ai` which each needs."""
ASSISTANT_UI = {
    "@assistant-ui/react": "0.15.22",
    "@assistant-ui/react-ai-sdk": "1.4.12",
    "@assistant-ui/react-data-stream": "0.12.32",
    "@ai-sdk/react": "4.0.177",
    "ai": "7.0.173",
    "esbuild": "0.28.2",
}
GUIDE = Path(__file__).resolve().parents[3] / "docs" / "guide" / "front-ends" / "ai-sdk.md"


def run(
    script: str,
    name: str,
    packages: dict[str, str],
    wires: dict[str, Any] | None = None,
    env: dict[str, str] | None = None,
) -> Checks:
    """Install packages, and run a script with them against a new server."""
    folder = npm.installed(name, packages)
    needs_node22 = packages["ai"].startswith("7") or "jsdom" in packages
    with place(wires=wires or {}) as running:
        node = npm.node22() if needs_node22 else None
        return asyncio.run(run_checks(JS / script, running.url, packages=folder, node=node, env=env))


@functools.cache
def of_ai(version: str) -> Checks:
    wires = {"ai_sdk_clients": "5"} if version.startswith("5") else {}
    return run("checks.mjs", f"ai-{version}", {"ai": version, "zod": REACT["zod"]}, wires)


@functools.cache
def of_latest() -> Checks:
    version = VERSIONS[0]
    packages = {"ai": version, "zod": REACT["zod"]}
    return run("checks.mjs", f"ai-{version}", packages, {"ai_sdk_clients": "7"}, {"LATEST": "1"})


@functools.cache
def of_react(version: str) -> Checks:
    packages = {"@ai-sdk/react": version, "ai": HOOKS[version], **REACT}
    return run("react.mjs", f"ai-react-{version}", packages)


@functools.cache
def of_assistant_ui() -> Checks:
    return run("assistant_ui.mjs", "assistant-ui", {**ASSISTANT_UI, **REACT})


@functools.cache
def of_the_guide() -> Checks:
    env = {"GUIDE": GUIDE.read_text(encoding="utf-8")}
    return run("docs.mjs", "assistant-ui", {**ASSISTANT_UI, **REACT}, {"graph": "approve"}, env)


def judge(checks: Checks, name: str) -> None:
    check = checks[name]
    if check.skipped:
        pytest.skip(check.skipped)
    assert check.passed, check.detail


@pytest.mark.parametrize("name", names("checks.mjs"))
@pytest.mark.parametrize("version", VERSIONS)
def test_a_version(version: str, name: str, tested: Tested) -> None:
    tested("ai-sdk", "ai", version, of_ai(version)[name])
    judge(of_ai(version), name)


@pytest.mark.parametrize("name", names("checks.mjs"))
def test_chunks_that_only_version_7_knows(name: str) -> None:
    judge(of_latest(), name)


@pytest.mark.parametrize("name", names("react.mjs"))
@pytest.mark.parametrize("version", HOOKS)
def test_the_hook(version: str, name: str, tested: Tested) -> None:
    tested("ai-sdk", "@ai-sdk/react", version, of_react(version)[name])
    judge(of_react(version), name)


@pytest.mark.parametrize("name", names("assistant_ui.mjs"))
def test_assistant_ui(name: str, tested: Tested) -> None:
    tested("ai-sdk", "@assistant-ui/react-ai-sdk", ASSISTANT_UI["@assistant-ui/react-ai-sdk"], of_assistant_ui()[name])
    judge(of_assistant_ui(), name)


@pytest.mark.parametrize("name", names("docs.mjs"))
def test_the_components_of_the_guide(name: str) -> None:
    judge(of_the_guide(), name)
