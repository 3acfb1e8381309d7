"""The npm package: what is in it, its types, and its version."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import tomllib
from pathlib import Path

import pytest

from lg_streaming.events import StreamEventType
from lg_streaming.gateway.protocol.registry import MESSAGES_OUT
from lg_streaming.payloads import PAYLOADS
from tests.docs.fences import blocks_of
from tests.npm.consumer import STRICT, errors_of, promised_errors, write_options
from tests.support.js_package import ROOT, SOURCE, build_package, manifest, pack, run, unpack
from tests.support.node import node_executable

STATIC = ROOT / "lg_streaming/static"
TYPES = STATIC / "lg-streaming/updates.d.ts"
PAGES = [SOURCE / "README.md", ROOT / "docs/guide/clients/browser.md"]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_package(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def project(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(STRICT, folder, dirs_exist_ok=True)
    (folder / "package.json").write_text('{"type": "module"}')
    for page in PAGES:
        for number, block in enumerate(blocks_of(page)):
            if block.language in {"ts", "tsx"}:
                (folder / f"{page.stem}-{number}.{block.language}").write_text(block.code, encoding="utf-8")
    unpack(package, folder / "node_modules")
    return folder


# ---------------------------------------------------------------- the types of updates
def test_the_types_are_those_of_the_schema() -> None:
    spec = importlib.util.spec_from_file_location("update_types", ROOT / "tools/update_types.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert TYPES.read_text(encoding="utf-8") == tool.render(), "run tools/update-types"


def keys_of(interface: str) -> list[str]:
    body = TYPES.read_text(encoding="utf-8").partition(f"export interface {interface} {{\n")[2].partition("\n}")[0]
    return re.findall(r'^  "?([\w:]+)"?\??: ', body, re.MULTILINE)


def test_every_type_of_updates_and_every_message_is_declared() -> None:
    assert set(keys_of("UpdateData")) == {*StreamEventType, *PAYLOADS}
    assert set(keys_of("ServerMessages")) == {*MESSAGES_OUT}
    named = re.findall(
        r'^export type \w+Update = TypedUpdate<"([\w:]+)">;$', TYPES.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert named == keys_of("UpdateData")


@pytest.mark.parametrize("resolution", ["bundler", "nodenext"])
def test_right_use_and_the_code_of_pages_compile_and_wrong_use_does_not(project: Path, resolution: str) -> None:
    assert len([*project.glob("README-*.ts*")]) == 3
    assert len([*project.glob("browser-*.ts*")]) == 1
    write_options(project, resolution)
    assert errors_of(project) == promised_errors()


# ---------------------------------------------------------------- the package
def test_the_package_has_the_version_of_the_library() -> None:
    library = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    package = manifest()
    assert package["version"] == library["version"]
    assert package["name"] == library["name"]
    assert package["license"] == library["license"]
    assert "dependencies" not in package


def test_the_archive_has_the_client_the_hook_and_nothing_else(package: Path) -> None:
    archive, files = pack(package)
    parts = [part.name for part in (STATIC / "lg-streaming").iterdir()]
    hook = [file.stem for file in (SOURCE / "src/react").iterdir()]
    assert files == sorted(
        [
            *("LICENSE", "README.md", "package.json", "dist/lg-streaming.js", "dist/lg-streaming.d.ts"),
            *(f"dist/lg-streaming/{part}" for part in parts),
            *(f"dist/react/{name}{ending}" for name in hook for ending in (".js", ".d.ts")),
        ]
    )
    assert archive.name == f"lg-streaming-{manifest()['version']}.tgz"
    targets = re.findall(r'"\./([^"]+)"', json.dumps([*manifest()["exports"].values()]))
    assert set(targets) <= set(files)


def test_the_client_in_the_package_is_that_of_the_server(package: Path) -> None:
    for file in [*STATIC.glob("lg-streaming.*"), *(STATIC / "lg-streaming").iterdir()]:
        assert (package / "dist" / file.relative_to(STATIC)).read_bytes() == file.read_bytes()


def test_node_imports_the_package_and_renders_the_hook(project: Path) -> None:
    printed = json.loads(run(project, node_executable(), "--no-warnings", "server.mjs"))
    assert printed["names"] == [
        "Backoff",
        "StreamingError",
        "TextAssembly",
        "createClient",
        "messageTree",
        "nodePath",
        "subscribe",
    ]
    assert printed["version"] == manifest()["version"]
    assert printed["rendered"] == ['<p data-state="connecting">unknown</p>', '<p data-state="idle">unknown</p>']


def test_the_hook_is_marked_as_code_of_the_browser(package: Path) -> None:
    assert (package / "dist/react/index.js").read_text(encoding="utf-8").startswith('"use client";')
