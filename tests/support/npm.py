"""Exact versions of npm packages, installed outside the repository, and Node scripts that print their checks."""

import asyncio
import fcntl
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from tests.support.node import LINE_LIMIT, NodeError

NODE_22 = "22.23.3"
NPM = ("npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error")
INSTALL_TIMEOUT = 900.0
CHECKS_TIMEOUT = 120.0
PROGRESS = 10.0
"""Seconds between two lines about an installation."""
uncaptured: Callable[[], AbstractContextManager[None]] = nullcontext
"""Switches pytest's capturing off, for lines about progress; set by `tests/wires/conftest.py`."""
OFFLINE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ENETUNREACH", "ETIMEDOUT", "ENOTCACHED")


class NpmError(Exception):
    """The packages cannot be installed."""


# ---------------------------------------------------------------- packages
def cache_folder() -> Path:
    """The folder of installed packages, in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lg-streaming-tests" / "npm"


def installed(name: str, packages: Mapping[str, str], *, overrides: Mapping[str, Any] | None = None) -> Path:
    """Install exact versions unless they are there, and return the folder that has their `node_modules`.

    The folder is named by `name` and its content, and shared by all checkouts and workers; it stays for the next run.

    Args:
        name: What the folder is for, such as `ai-7`.
        packages: Versions by package, each exact: `{"ai": "7.0.3"}`.
        overrides: The field of this name in `package.json`, for versions of what the packages depend on.

    Raises:
        NpmError: If npm is missing, fails, has no network, or takes longer than 15 minutes.
    """
    if inexact := [f"{each}@{version}" for each, version in packages.items() if not version[:1].isdigit()]:
        raise NpmError(f"a version has to be exact: {', '.join(inexact)}")
    content = {"private": True, "type": "module", "dependencies": dict(sorted(packages.items()))}
    content |= {"overrides": dict(overrides)} if overrides else {}
    package_json = json.dumps(content, indent=2, sort_keys=True)
    folder = cache_folder() / f"{name}-{hashlib.sha256(package_json.encode()).hexdigest()[:12]}"
    if not folder.exists():
        with _alone(folder.with_name(f".{folder.name}.lock"), name):
            if not folder.exists():
                _install(name, folder, package_json, packages)
    return folder


@contextmanager
def _alone(path: Path, name: str) -> Generator[None]:
    """Hold a lock file, which the system releases when its process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"waiting for another process that installs {name}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install(name: str, folder: Path, package_json: str, packages: Mapping[str, str]) -> None:
    """Install into a folder of another name, and rename it at the end: a folder of this name is complete."""
    if shutil.which("npm") is None:
        raise NpmError("npm is not installed: `make wires` installs it, or `apt-get install nodejs npm`")
    wanted = " ".join(f"{package}@{version}" for package, version in packages.items())
    partial = Path(mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        (partial / "package.json").write_text(package_json, encoding="utf-8")
        install(name, partial, wanted)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def install(name: str, folder: Path, wanted: str) -> None:
    """Install what the `package.json` of a folder demands, and print the progress.

    Raises:
        NpmError: If npm fails, has no network, or takes longer than 15 minutes.
    """
    progress(f"installing {name}: {wanted}")
    status, output = _run(name, folder)
    if status != 0:
        if any(code in output for code in OFFLINE):
            raise NpmError(f"{output[-2000:]}\n{name} needs the network once, to install {wanted}")
        raise NpmError(f"npm cannot install {wanted}:\n{output[-4000:]}")


def _run(name: str, folder: Path) -> tuple[int, str]:
    """Run npm, and print a line each ten seconds; return its status and output."""
    began, output = time.monotonic(), folder / "npm.log"
    with (
        output.open("wb") as log,
        subprocess.Popen(NPM, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process,
    ):
        try:
            while process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(PROGRESS)
                    break
                passed = time.monotonic() - began
                if passed > INSTALL_TIMEOUT:
                    raise NpmError(f"npm did not install {name} within {INSTALL_TIMEOUT:g} s")
                progress(f"still installing {name} ({passed:.0f} s)")
        finally:
            process.kill()
    return process.returncode, output.read_text(encoding="utf-8", errors="replace")


def progress(text: str) -> None:
    """Print a line that a person sees while pytest runs."""
    with uncaptured():
        print(text, file=sys.stderr, flush=True)


@functools.cache
def node22() -> str:
    """The path of a Node 22, for packages that need one; from npm, where the machine's own is older."""
    own = shutil.which("node")
    if own is not None:
        version = subprocess.run([own, "--version"], capture_output=True, text=True, check=False).stdout
        if version.startswith("v") and int(version[1:].partition(".")[0]) >= 22:
            return own
    return str(installed("node-22", {"node": NODE_22}) / "node_modules" / "node" / "bin" / "node")


# ---------------------------------------------------------------- checks
SCRIPT_ENDS = "the script ends"
"""Name of the check that a script ends with the status 0."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a client."""

    name: str
    passed: bool
    detail: str = ""
    skipped: str = ""
    """Reason why the client does not have this check."""


@dataclass(slots=True)
class Checks:
    """Checks that a script printed, by name, and the rest of its output."""

    found: dict[str, Check] = field(default_factory=dict[str, Check])
    output: str = ""

    def __getitem__(self, name: str) -> Check:
        """The check of this name; NodeError with the script's output if it printed none."""
        if name not in self.found:
            raise NodeError(f"the script printed no check {name!r}:\n{self.output[-4000:]}")
        return self.found[name]


async def run_checks(
    script: Path,
    *arguments: str,
    packages: Path | None = None,
    node: str | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = CHECKS_TIMEOUT,
) -> Checks:
    """Run a Node script that prints a line of JSON for each check, `{"check", "passed", "detail"?, "skipped"?}`.

    Other lines, and an end with another status than 0 (as the check `the script ends`), are kept for messages.

    Args:
        script: The script. It may import from its folder.
        arguments: Arguments of the script.
        packages: A folder of `installed`, whose packages the script imports; by default those in its own folder.
        node: The path of Node; by default the machine's own.
        env: Further variables of the environment.
        timeout: Seconds until the script is ended, which fails `the script ends`.
    """
    node = node or shutil.which("node")
    if node is None:
        raise NodeError("node is not installed: `make wires` installs it, or `apt-get install nodejs npm`")
    if packages is None:
        check_packages(script.parent)
    with _placed(script, packages) as path:
        process = await asyncio.create_subprocess_exec(
            *(node, path.name, *arguments),
            cwd=path.parent,
            env={**os.environ, **(env or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=LINE_LIMIT,
        )
        checks = Checks()
        try:
            async with asyncio.timeout(timeout):
                await _read(process, checks)
                end = f"it ended with {await process.wait()}"
        except TimeoutError:
            end = f"it did not end within {timeout:g} s"
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    ended = Check(SCRIPT_ENDS, end.endswith(" 0"), f"{end}:\n{checks.output[-4000:]}")
    checks.found.setdefault(ended.name, ended)
    return checks


def check_packages(folder: Path) -> None:
    """Raise NodeError with what to do if the packages of a folder of scripts are not installed."""
    if (folder / "package.json").exists() and not (folder / "node_modules").is_dir():
        raise NodeError(f"{folder}/node_modules is missing: run `make js` (or `npm install` there)")


@contextmanager
def _placed(script: Path, packages: Path | None) -> Generator[Path]:
    """Copy the scripts of the folder to where Node finds the packages: it looks in the folders above a module."""
    if packages is None:
        yield script
        return
    folder = Path(mkdtemp(dir=packages, prefix="run-"))
    try:
        shutil.copytree(
            script.parent, folder, ignore=shutil.ignore_patterns("node_modules", "package*.json"), dirs_exist_ok=True
        )
        yield folder / script.name
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _read(process: asyncio.subprocess.Process, checks: Checks) -> None:
    assert process.stdout is not None
    async for raw in process.stdout:
        line = raw.decode(errors="replace")
        if (check := _parsed(line)) is not None:
            checks.found[check.name] = check
        else:
            checks.output += line


def _parsed(line: str) -> Check | None:
    if not line.startswith("{"):
        return None
    try:
        value: Any = json.loads(line)
    except ValueError:
        return None
    if "check" not in value:
        return None
    detail: Any = value.get("detail", "")
    detail = detail if isinstance(detail, str) else json.dumps(detail)
    return Check(value["check"], value.get("passed") is True, detail, value.get("skipped") or "")
