"""The browser's module outside of a browser: in Node, for TypeScript, and as the server gives it away."""

from __future__ import annotations

import json
import random
import re
import subprocess
from collections import defaultdict
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from lg_streaming.codec import Codec
from lg_streaming.events import Scope
from lg_streaming.gateway.delivery.merge import merge
from lg_streaming.gateway.http.assets import ASSETS
from lg_streaming.log.base import Batch, PendingUpdate, StoredUpdate
from lg_streaming.log.memory import MemoryLog
from tests.gateway.site import SECRET, Site, site
from tests.log.drafts import read_now
from tests.support.node import JS, node_executable

HERE = Path(__file__).parent
STATIC = HERE.parents[1] / "lg_streaming/static"
TIMEOUT = 60.0


# ---------------------------------------------------------------- in Node
@pytest.mark.parametrize(
    "name", ["text.test.mjs", "hostile.test.mjs", pytest.param("client.test.mjs", marks=pytest.mark.row("CFLOW-37"))]
)
def test_in_node(name: str) -> None:
    command = [node_executable(), "--test", str(HERE / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


CODEC = Codec()
SCOPES = [Scope(node_id="write", attempt=1, message_id=name) for name in ("a", "b", "c")]


def draft(type: str, content: str, scope: Scope) -> PendingUpdate:
    body = CODEC.encode("e", type, {"content": content}, scope=scope, priority="medium", timestamp=0.0)
    return PendingUpdate(type, scope, "medium", 0.0, body)


def records_of(chance: random.Random) -> Sequence[StoredUpdate]:
    """Three messages that are written and thought about at the same time."""
    types = ["token", "token", "thinking", "progress"]
    drafts = [draft(chance.choice(types), f"{number} ", chance.choice(SCOPES)) for number in range(60)]
    log = MemoryLog(new_epoch=lambda: "k3f9")
    log.append(Batch("e", drafts, "p", 1))
    found = read_now(log, "e", 0, len(drafts))
    assert found is not None
    return found.records


def merged_anyhow(records: Sequence[StoredUpdate], chance: random.Random) -> list[Any]:
    """As readers that lag get them: here whole, there merged, and now and then one after the other."""
    updates: list[Any] = []
    begin = 0
    while begin < len(records):
        end = min(len(records), begin + chance.randint(1, 15))
        part = records[begin:end]
        given = merge(part, atomic=chance.random() < 0.5) if chance.random() < 0.6 else part
        updates += [orjson.loads(record.json) for record in given]
        if chance.random() < 0.2:
            updates += [orjson.loads(record.json) for record in part]  # it came a second time
        begin = end
    return updates


def texts_of(records: Sequence[StoredUpdate]) -> dict[str, list[str]]:
    texts: defaultdict[str, list[str]] = defaultdict(lambda: ["", ""])
    for record in records:
        if record.type in {"token", "thinking"}:
            update = orjson.loads(record.json)
            texts[update["metadata"]["message_id"]][record.type == "thinking"] += update["data"]["content"]
    return dict(texts)


def test_however_updates_are_merged_and_repeated_the_texts_are_the_same() -> None:
    chances = [random.Random(seed) for seed in range(300)]
    all_records = [records_of(chance) for chance in chances]
    lists = [merged_anyhow(records, chance) for records, chance in zip(all_records, chances, strict=True)]
    assert sum("merged_from" in update["metadata"] for updates in lists for update in updates) > 1000
    command = [node_executable(), str(HERE / "assemble.mjs")]
    done = subprocess.run(command, input=json.dumps(lists), capture_output=True, text=True, timeout=TIMEOUT, check=True)
    for seed, (made, records) in enumerate(zip(json.loads(done.stdout), all_records, strict=True)):
        assert made == texts_of(records), f"seed {seed}"


# ---------------------------------------------------------------- for TypeScript
def options_of_the_module() -> dict[str, list[str]]:
    script = (
        f"import('{(STATIC / 'lg-streaming/options.js').as_uri()}').then((options) => console.log(JSON.stringify("
        "Object.fromEntries(Object.entries(options).filter(([, one]) => typeof one === 'object')"
        ".map(([name, one]) => [name, Object.keys(one)])))))"
    )
    done = subprocess.run(
        [node_executable(), "-e", script], capture_output=True, text=True, timeout=TIMEOUT, check=True
    )
    return json.loads(done.stdout)


def compiled(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    (folder / "usage.ts").write_text(code, encoding="utf-8")
    options = {
        "strict": True,
        "noEmit": True,
        "target": "es2022",
        "module": "esnext",
        "moduleResolution": "bundler",
        "lib": ["es2022", "dom"],
        "types": [],
        "paths": {"lg-streaming": [str(STATIC / "lg-streaming.d.ts")]},
    }
    (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "files": ["usage.ts"]}))
    compiler = [node_executable(), str(JS / "node_modules/typescript/bin/tsc"), "-p", str(folder)]
    return subprocess.run(compiler, capture_output=True, text=True, timeout=TIMEOUT, check=False)


def test_the_types_are_those_of_the_module(tmp_path: Path) -> None:
    code = (HERE / "usage.ts").read_text(encoding="utf-8")
    for name in ("CLIENT_OPTIONS", "SUBSCRIBE_OPTIONS", "START_OPTIONS"):
        code = code.replace(name, " | ".join(json.dumps(option) for option in options_of_the_module()[name]))
    done = compiled(tmp_path, code)
    assert done.returncode == 0, done.stdout
    unknown = compiled(tmp_path, code.replace('"withCredentials" | ', ""))
    assert unknown.returncode != 0, "the comparison of the options notices nothing"


def test_the_module_exports_what_the_types_say() -> None:
    types = (STATIC / "lg-streaming.d.ts").read_text(encoding="utf-8")
    values = set(re.findall(r"^export (?:class|function) (\w+)", types, re.MULTILINE))
    script = (
        f"import('{(STATIC / 'lg-streaming.js').as_uri()}').then((m) => console.log(JSON.stringify(Object.keys(m))))"
    )
    done = subprocess.run(
        [node_executable(), "-e", script], capture_output=True, text=True, timeout=TIMEOUT, check=True
    )
    assert set(json.loads(done.stdout)) == values


def test_the_types_have_every_method_of_a_client() -> None:
    types = (STATIC / "lg-streaming.d.ts").read_text(encoding="utf-8")
    declared = re.findall(
        r"^  (\w+)\(", types.partition("export interface Client {")[2].partition("\n}")[0], re.MULTILINE
    )
    script = (
        f"import('{(STATIC / 'lg-streaming.js').as_uri()}').then(({{ createClient }}) => console.log(JSON.stringify("
        "Object.getOwnPropertyNames(Object.getPrototypeOf(createClient({ url: 'http://localhost' }))))))"
    )
    done = subprocess.run(
        [node_executable(), "-e", script], capture_output=True, text=True, timeout=TIMEOUT, check=True
    )
    assert {*declared, "constructor", "forget"} == set(json.loads(done.stdout))


# ---------------------------------------------------------------- as it is served
@pytest.fixture(scope="module")
def locked() -> Generator[Site]:
    with site(auth={"secret": SECRET}, gateway={"prefix": "/live"}) as running:
        yield running


def test_every_file_that_the_module_is_made_of_is_served() -> None:
    folder = {f"lg-streaming/{part.name}" for part in (STATIC / "lg-streaming").iterdir()}
    assert set(ASSETS) == folder | {"lg-streaming.js", "lg-streaming.d.ts"}
    imported = {
        name
        for path, asset in ASSETS.items()
        for name in re.findall(r'from "\./(?:lg-streaming/)?([\w.-]+)"', asset.content.decode())
        if path.endswith(".js")
    }
    assert {f"lg-streaming/{name}" for name in imported} == {path for path in folder if path.endswith(".js")}
    types = re.findall(r'from "\./lg-streaming/([\w.-]+)\.js"', ASSETS["lg-streaming.d.ts"].content.decode())
    assert {f"lg-streaming/{name}.d.ts" for name in types} == {path for path in folder if path.endswith(".d.ts")}


@pytest.mark.parametrize("path", sorted(ASSETS))
def test_a_file_is_for_everybody_and_is_kept_until_it_changes(path: str, locked: Site) -> None:
    url = f"{locked.url}/live/{path}"
    found = httpx2.get(url, headers={"Origin": "https://elsewhere.example"})
    assert found.status_code == 200
    assert found.content == (STATIC / path).read_bytes()
    media_type = "application/typescript" if path.endswith(".d.ts") else "text/javascript; charset=utf-8"
    assert found.headers["content-type"] == media_type
    assert found.headers["access-control-allow-origin"] == "*"
    assert found.headers["cross-origin-resource-policy"] == "cross-origin"
    assert found.headers["x-content-type-options"] == "nosniff"
    assert found.headers["cache-control"] == "no-cache"
    etag = found.headers["etag"]
    for known in (etag, etag.removeprefix("W/"), f'"other", {etag}', "*"):
        again = httpx2.get(url, headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert httpx2.get(url, headers={"If-None-Match": '"other"'}).status_code == 200
    assert httpx2.post(url).status_code == 405
    assert httpx2.head(url).content == b""


@pytest.mark.parametrize("path", ["lg-streaming/nothing.js", "lg-streaming/", "lg-streaming/..%2fwatch.js", "watch.js"])
def test_nothing_else_is_served(path: str, locked: Site) -> None:
    assert httpx2.get(f"{locked.url}/live/{path}").status_code == 404
