"""`useStreaming` and the React example: real React, in a real browser, on a real server."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect

from tests.browser.place import EXECUTION, PATIENCE, PATIENCE_MS
from tests.browser.react_site import EXAMPLE, EXTERNAL, ROOT, Build, ReactPlace, build
from tests.docs.fences import blocks_of
from tests.gateway.tokens import SECRET, token
from tests.support.browser import chromium_page
from tests.support.js_package import SOURCE, manifest
from tests.support.node import JS
from tests.support.server import serve

GUIDE = ROOT / "docs/guide/clients/react.md"
HOOK = SOURCE / "src/react"

pytestmark = pytest.mark.browser

WORDS = [f"word{number} " for number in range(200)]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Build:
    return build(tmp_path_factory.mktemp("react"))


@pytest.fixture(scope="session")
def server(built: Build) -> ModuleType:
    """The example's `server.py`."""
    return built.server()


@pytest.fixture
async def place(built: Build) -> AsyncGenerator[ReactPlace]:
    place = ReactPlace(built)
    yield place
    await place.hub.aclose()


class Harness:
    """The page for tests; see `harness.tsx`."""

    def __init__(self, page: Page, place: ReactPlace) -> None:
        self.page = page
        self.place = place
        self.streams: list[str] = []
        """The addresses of all streams and sockets that were asked for."""
        page.on("request", lambda request: self.streams.append(request.url) if "/stream" in request.url else None)
        page.on("websocket", lambda socket: self.streams.append(socket.url))

    async def load(self) -> None:
        await self.page.goto(f"{self.place.url}/harness")
        await self.page.wait_for_function("() => window.harness")

    async def show(
        self, id: str | None = EXECUTION, *, mode: str = "visible", options: dict[str, Any] | None = None, **more: Any
    ) -> str:
        """Renders the page; returns the text that it shows at once."""
        wanted = {"id": id, "mode": mode, "options": options or {}, **more}
        return await self.page.evaluate("(wanted) => harness.show(wanted)", wanted)

    async def leave(self) -> None:
        await self.page.evaluate("() => harness.leave()")

    async def get(self, expression: str) -> Any:
        """Return the value of an expression about the newest view, such as ``text`` or ``nodes.length``."""
        return await self.page.evaluate(f"() => ((view) => view.{expression})(harness.view)")

    async def until(self, condition: str) -> None:
        """Waits until something is true of the newest view."""
        await self.page.wait_for_function(
            f"() => harness.view && ((view) => {condition})(harness.view)", timeout=PATIENCE_MS
        )

    async def until_text(self, text: str) -> None:
        await expect(self.page.locator("#text")).to_have_text(text.strip(), timeout=PATIENCE_MS)


@asynccontextmanager
async def browser(**view: int) -> AsyncGenerator[Page]:
    """A page that fails the test on any error or warning in its console, other than a refused request."""
    errors: list[str] = []
    async with chromium_page(**view) as page:
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if line.type in {"error", "warning"} else None)
        yield page
    refused = ("Failed to load resource", "WebSocket connection")
    assert [error for error in errors if not error.startswith(refused)] == []


@asynccontextmanager
async def harness(place: ReactPlace) -> AsyncGenerator[Harness]:
    async with browser() as page:
        one = Harness(page, place)
        await one.load()
        yield one


async def readers(place: ReactPlace, count: int) -> None:
    """Waits until so many subscriptions are on the server, and no more."""
    async with asyncio.timeout(PATIENCE):
        while place.hub.statistics().subscriptions != count:
            await asyncio.sleep(0.02)


# ---------------------------------------------------------------- types and packages
def test_the_example_is_well_typed_and_its_misuse_is_not(built: Build) -> None:
    built.script("check")
    (built.example / "wrong.ts").write_text('import { useStreaming } from "lg-streaming/react";\nuseStreaming(1);\n')
    try:
        with pytest.raises(AssertionError, match=r"wrong\.ts\(2,14\)"):
            built.script("check")
    finally:
        (built.example / "wrong.ts").unlink()


def test_the_code_of_the_guide_is_well_typed(built: Build) -> None:
    blocks = [block.code for block in blocks_of(GUIDE) if block.language == "tsx"]
    files = [built.example / f"guide-{number}.tsx" for number in range(len(blocks))]
    for file, code in zip(files, blocks, strict=True):
        file.write_text(code, encoding="utf-8")
    built.script("check")
    for file in files:
        file.unlink()
    assert len(files) == 3


def rows_of(section: str) -> set[str]:
    """The names in the first column of a section's table."""
    text = GUIDE.read_text(encoding="utf-8").partition(f"## {section}\n")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`(\w+)", cell)}


def test_the_guide_has_every_option() -> None:
    hook = (HOOK / "options.ts").read_text(encoding="utf-8")
    picked = re.findall(r'"(\w+)"', "".join(re.findall(r"^type For\w+ = .*Pick<.*$", hook, re.MULTILINE)))
    types = (EXAMPLE.parents[1] / "lg_streaming/static/lg-streaming.d.ts").read_text(encoding="utf-8")
    filters = types.partition("export interface FilterOptions {")[2].partition("\n}")[0]
    picked += re.findall(r"^  (\w+)\?:", filters, re.MULTILINE)
    own = hook.partition("interface StreamingOptions")[2].partition("\n}")[0]
    assert rows_of("Options") == {*picked, *re.findall(r"readonly (\w+)\?:", own)}


def test_the_guide_has_the_options_of_esbuild_with_which_the_pages_are_built() -> None:
    assert f"{EXTERNAL[0]} \\\n  {EXTERNAL[1]}\n" in GUIDE.read_text(encoding="utf-8")


async def test_the_guide_has_everything_that_is_returned(place: ReactPlace) -> None:
    with place.serving():
        async with harness(place) as page:
            await page.show()
            assert rows_of("Result") == set(await page.page.evaluate("() => Object.keys(harness.view)"))


def test_the_example_and_the_package_ask_for_the_packages_that_are_tested() -> None:
    tested = json.loads((JS / "package.json").read_text(encoding="utf-8"))["dependencies"]
    asked = json.loads((EXAMPLE / "package.json").read_text(encoding="utf-8"))
    assert asked["dependencies"].pop("lg-streaming") == "file:../../packages/js"
    assert (asked["dependencies"] | asked["devDependencies"]).items() <= tested.items()
    assert manifest()["devDependencies"].items() <= tested.items()


def test_the_hook_imports_only_react_and_the_client_and_the_example_asks_no_other_host() -> None:
    hook = sorted(HOOK.iterdir())
    imports = {name for file in hook for name in re.findall(r' from "([^."][^"]*)"', file.read_text(encoding="utf-8"))}
    assert imports == {"react", "lg-streaming"}
    for file in [*hook, *(EXAMPLE / name for name in ("index.html", "app.css", "App.tsx", "main.tsx"))]:
        assert "://" not in file.read_text(encoding="utf-8")


# ---------------------------------------------------------------- one connection
@pytest.mark.row("PYEV-17")
@pytest.mark.parametrize("transport", ["sse", "websocket"])
async def test_one_connection_under_strict_mode_and_none_after_unmount(place: ReactPlace, transport: str) -> None:
    options = {"transport": transport}
    with place.serving():
        async with harness(place) as page:
            place.write("Hello ")
            await page.show(options=options)
            await page.until_text("Hello")
            place.write("there.")
            await page.until_text("Hello there.")
            assert len(page.streams) == 1
            await readers(place, 1)
            await page.leave()
            await place.nobody_is_left()
            place.write(" More.")
            await place.hub.close(EXECUTION)
            await page.show(options=options)
            await page.until_text("Hello there. More.")
            await page.until("view.state === 'ended' && view.status === 'completed'")
            await place.nobody_is_left()


async def test_components_share_a_client_and_its_connection(place: ReactPlace) -> None:
    with place.serving():
        async with harness(place) as page:
            place.write("Hello")
            place.write("Good morning", execution_id="another")
            await page.show(shared={"transport": "websocket"})
            shown = page.page.locator("p")
            await expect(shown).to_have_text(["Hello", "Good morning"], timeout=PATIENCE_MS)
            assert len(page.streams) == 1
            await page.page.evaluate("() => harness.client.close()")
            await page.until("view.state === 'closed'")
            await page.leave()
            await page.show(options={"url": "/"})
            await page.until("view.state === 'failed'")
            assert "belong to its createClient" in await page.get("error.message")


async def test_options_that_say_the_same_never_connect_anew(place: ReactPlace) -> None:
    with place.serving():
        async with harness(place) as page:
            place.write("Hello")
            for _ in range(50):
                await page.show(options={"events": ["token", "status"], "maxUpdates": 7})
            await page.until_text("Hello")
            assert len(page.streams) == 1
            assert "events=token" in page.streams[0]
            await page.show(options={"events": ["status"]})
            await page.until("view.state === 'connected' && view.text === ''")
            assert len(page.streams) == 2
            await readers(place, 1)


async def test_another_execution_shows_nothing_of_the_one_before(place: ReactPlace) -> None:
    with place.serving():
        async with harness(place) as page:
            place.write("one")
            place.write("two", execution_id="exec-2")
            await page.show(None)
            assert await page.get("state") == "idle"
            await page.show(EXECUTION)
            await page.until_text("one")
            assert await page.show("exec-2") == ""
            await page.until_text("two")
            await readers(place, 1)
            await page.show(None)
            assert await page.get("state") == "idle"
            await readers(place, 0)
            assert await page.page.evaluate("() => harness.view.cancel().catch((error) => error.message)")


async def test_a_hidden_activity_holds_no_connection_and_goes_on_where_it_was(place: ReactPlace) -> None:
    with place.serving():
        async with harness(place) as page:
            place.write("one ")
            await page.show()
            await page.until_text("one")
            await page.show(mode="hidden")
            await readers(place, 0)
            place.write("two")
            await page.show(mode="visible")
            await page.until_text("one two")
            assert await page.page.evaluate("() => harness.told") == [1, 2, 3]
            assert "after=" in page.streams[1]


# ---------------------------------------------------------------- what comes
async def test_a_thousand_tokens_a_second_are_shown_frame_by_frame(place: ReactPlace) -> None:
    with place.serving():
        async with harness(place) as page:
            await page.show()
            await page.until("view.state === 'connected'")
            began = time.monotonic()
            for number in range(200):
                for word in WORDS[:10]:
                    place.write(word)
                await asyncio.sleep(max(0.0, began + number / 100 - time.monotonic()))
            await place.hub.close(EXECUTION)
            await page.until("view.state === 'ended'")
            took = time.monotonic() - began
            assert await page.get("text") == "".join(WORDS[:10]) * 200
            assert await page.page.evaluate("() => harness.told.length") == 2002
            assert await page.page.evaluate("() => harness.commits") < 70 * took + 10
            assert await page.get("updates.length") == 200
            assert await page.get("updates.at(-1).type") == "workflow_complete"


async def test_a_node_that_is_tried_again_begins_its_text_afresh(place: ReactPlace) -> None:
    with place.serving():
        async with harness(place) as page:
            await page.show(options={"maxUpdates": 0})
            place.write("wrong")
            await page.until_text("wrong")
            place.write("right", attempt=2)
            await page.until_text("right")
            assert await page.get("updates.length") == 0


async def test_nodes_progress_and_the_end_of_a_run(place: ReactPlace) -> None:
    with place.serving():
        async with harness(place) as page:
            scope = {"node_id": "write", "attempt": 1}
            await page.show()
            place.say("node_start", {"node_id": "write", "node_name": "Writer"}, **scope)
            place.say("progress", {"progress": 40.0, "status": "running"}, **scope)
            await page.until("view.progress === 40")
            assert await page.get("status") == "running"
            (node,) = await page.get("nodes")
            assert (node["name"], node["state"], node["progress"]) == ("Writer", "running", 40)
            place.say("workflow_progress", {"progress": 10.0, "total_nodes": 4, "completed_nodes": 0})
            place.say("progress", {"progress": 60.0, "status": "running"}, **scope)
            await page.until("view.nodes[0].progress === 60")
            assert await page.get("progress") == 10
            place.say(
                "node_error", {"node_id": "write", "node_name": "Writer", "error": {"message": "no ink"}}, **scope
            )
            await place.hub.fail(EXECUTION, RuntimeError("no report"))
            await page.until("view.state === 'ended'")
            assert await page.get("status") == "failed"
            assert await page.get("error.message") == "no report"
            (node,) = await page.get("nodes")
            assert (node["state"], node["error"]) == ("failed", "no ink")


async def test_a_prompt_is_there_until_it_is_answered_and_the_second_answer_is_refused(place: ReactPlace) -> None:
    told: list[Any] = []
    with place.serving():
        async with harness(place) as page:
            place.hub.open(EXECUTION)
            place.hub.on_response(EXECUTION, lambda prompt_id, response: told.append((prompt_id, response)))
            await page.show()
            place.say("human_prompt", {"prompt_id": "p1", "prompt": "Go on?", "type": "approval"})
            await page.until("view.prompts.length === 1")
            answer = "() => harness.view.respond('p1', {approved: true})"
            assert (await page.page.evaluate(answer))["prompt_id"] == "p1"
            await page.until("view.prompts.length === 0")
            assert told == [("p1", {"approved": True})]
            assert await page.page.evaluate(f"{answer}.catch((error) => error.code)") == 4090
            place.say("human_prompt", {"prompt_id": "p2", "prompt": "Still?", "type": "approval"})
            await page.until("view.prompts.length === 1")
            assert (await page.page.evaluate("() => harness.view.cancel('enough')"))["cancelled"] is True
            await page.until("view.status === 'cancelled'")
            assert await page.get("prompts") == []


# ---------------------------------------------------------------- trouble
@pytest.mark.row("PYEV-17")
async def test_a_restart_of_the_server_in_mid_stream_loses_and_doubles_nothing(place: ReactPlace) -> None:
    async with browser() as tab:
        page = Harness(tab, place)
        with place.serving():
            await page.load()
            await page.show()
            place.write("one ")
            await page.until_text("one")
        await page.until("view.state === 'reconnecting'")
        place.write("two ")
        with place.serving():
            await page.until_text("one two")
            place.write("three")
            await place.hub.close(EXECUTION)
            await page.until("view.state === 'ended'")
            assert await page.get("text") == "one two three"
            assert await tab.evaluate("() => harness.told") == [1, 2, 3, 4, 5]
            assert await page.get("gap") is None


async def test_a_server_that_has_forgotten_the_run_shows_a_gap_and_the_new_text_alone(
    place: ReactPlace, built: Build
) -> None:
    async with browser() as tab:
        page = Harness(tab, place)
        with place.serving():
            await page.load()
            await page.show()
            place.write("old")
            await page.until_text("old")
        forgotten, place.hub = place.hub, ReactPlace(built).hub
        await forgotten.aclose()
        with place.serving():
            await page.until("view.gap?.reason === 'epoch_changed' && view.text === ''")
            assert await page.get("updates") == []
            place.write("new")
            await page.until_text("new")


@pytest.mark.row("PYEV-17")
async def test_where_no_stream_comes_through_it_polls(built: Build) -> None:
    place = ReactPlace(built, gateway={"transports": ["sse", "rest"]})
    with place.serving():
        async with harness(place) as page:
            await page.page.route("**/stream*", lambda route: route.fulfill(status=501))  # a proxy in between
            await page.show(options={"pollInterval": 20})
            place.write("Hello ")
            await page.until("view.state === 'polling' && view.text === 'Hello '")
            place.write("there.")
            await place.hub.close(EXECUTION)
            await page.until("view.state === 'ended' && view.text === 'Hello there.'")
            assert await page.page.evaluate("() => harness.told") == [1, 2, 3, 4]
    await place.hub.aclose()


async def test_a_refused_login_says_why_and_a_new_token_mends_it(built: Build) -> None:
    place = ReactPlace(built, auth={"secret": SECRET})
    place.hub.open(EXECUTION, owner="alice")
    with place.serving():
        async with harness(place) as page:
            await page.page.evaluate("(token) => (harness.token = token)", token(exp=time.time() - 60))
            await page.show()
            await page.until("view.state === 'failed'")
            assert await page.get("error.code") == 4011
            await page.page.evaluate("(token) => (harness.token = token)", token())
            await page.show()
            place.write("Hello")
            await page.until_text("Hello")
            assert await page.get("error") is None
            await page.leave()
            await readers(place, 0)
    await place.hub.aclose()


BAD = [
    pytest.param({"event": ["token"]}, 'no option "event"', id="misspelt"),
    pytest.param({"transport": "pigeon"}, "the option transport", id="unknown"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
async def test_an_option_that_cannot_be_used_is_an_error_that_says_so(
    place: ReactPlace, options: dict[str, Any], message: str
) -> None:
    with place.serving():
        async with harness(place) as page:
            await page.show(options=options)
            await page.until("view.state === 'failed'")
            assert message in await page.get("error.message")
            assert page.streams == []


# ---------------------------------------------------------------- over a reload
async def test_after_a_reload_everything_is_there_and_only_what_is_new_comes(place: ReactPlace) -> None:
    resumed = {"resume": True}
    with place.serving():
        async with harness(place) as page:
            scope = {"node_id": "write", "attempt": 1}
            place.say("node_start", {"node_id": "write", "node_name": "write"}, **scope)
            place.write("Hello ")
            place.say("human_prompt", {"prompt_id": "p1", "prompt": "Go on?"})
            await page.show(options=resumed)
            await page.until("view.prompts.length === 1")
            await page.load()
            await page.show(options=resumed)
            await page.until("view.state === 'connected'")
            place.write("there.")
            await page.until_text("Hello there.")
            assert await page.page.evaluate("() => harness.told") == [5]
            assert [prompt["prompt_id"] for prompt in await page.get("prompts")] == ["p1"]
            assert [node["name"] for node in await page.get("nodes")] == ["write"]
            assert await page.get("updates.length") == 5
            await place.hub.close(EXECUTION)
            await page.until("view.state === 'ended'")
            before = len(page.streams)
            await page.load()
            await page.show(options=resumed)
            await page.until_text("Hello there.")
            assert await page.get("state") == "ended"
            assert len(page.streams) == before
            await page.load()
            await page.show(options={"resume": True, "events": ["token"]})
            await page.until("view.state === 'ended'")
            assert await page.page.evaluate("() => harness.told") == [3, 5]


async def test_without_resume_a_reload_has_it_all_from_the_start(place: ReactPlace) -> None:
    with place.serving():
        async with harness(place) as page:
            place.write("Hello")
            for _ in range(2):
                await page.show()
                await page.until_text("Hello")
                assert await page.page.evaluate("() => harness.told") == [1, 2]
                await page.load()


async def test_what_a_server_has_rendered_is_taken_up(place: ReactPlace, built: Build) -> None:
    rendered = json.loads(built.run("node", "built/server.cjs"))
    assert 'data-state="connecting"' in rendered["followed"]
    assert 'data-state="idle"' in rendered["idle"]
    with place.serving():
        async with harness(place) as page:
            place.write("Hello")
            await page.page.evaluate("(html) => harness.hydrate(html, {id: 'acme/run-1'})", rendered["followed"])
            await page.until_text("Hello")
            assert len(page.streams) == 1


# ---------------------------------------------------------------- the example
def shown(page: Page) -> Locator:
    return page.locator("article .text")


async def start(page: Page, url: str) -> str:
    """Write a topic and press Enter, as the cursor is in the field; return the execution's id."""
    await page.goto(url)
    await expect(page.get_by_label("What shall it be about?")).to_be_focused()
    await page.keyboard.type("morning fog")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/?execution=*")
    return page.url.partition("execution=")[2]


async def test_the_example_from_the_first_key_to_the_end(server: ModuleType) -> None:
    app = server.build_app(delay=0.02, pause=0.05)
    with serve(app) as serving:
        async with browser() as page:
            execution_id = await start(page, f"{serving.url}/")
            await expect(shown(page).nth(1)).to_contain_text("Morning fog looks simple", timeout=PATIENCE_MS)
            texts = page.get_by_label("Text")
            assert await texts.get_attribute("aria-live") == "polite"
            assert await texts.get_attribute("aria-busy") == "true"
            await page.wait_for_function(
                "() => [...document.querySelectorAll('progress')].some((bar) => 0 < bar.value)"
            )
            assert await page.get_by_role("progressbar").evaluate("(bar) => bar.value") < 100
            before = await shown(page).nth(1).text_content()
            await page.reload()
            await expect(shown(page).nth(1)).to_contain_text(before or "", timeout=PATIENCE_MS)

            question = page.get_by_role("group", name="Shall the report go out?")
            await expect(question).to_be_visible(timeout=PATIENCE_MS)
            await expect(page.get_by_role("status")).to_have_text("Shall the report go out?")
            await expect(texts).to_have_attribute("aria-busy", "false")
            await question.get_by_role("button", name="Make it shorter").press("Enter")
            await expect(shown(page).nth(2)).to_have_text(
                server.SHORTER.format(topic="Morning fog"), timeout=PATIENCE_MS
            )
            await question.get_by_role("button", name="Send it").press("Enter")
            await expect(page.get_by_label("Run")).to_be_focused()
            await expect(page.get_by_role("status")).to_have_text("Run complete", timeout=PATIENCE_MS)
            assert await shown(page).all_text_contents() == [
                server.PLAN.format(topic="morning fog"),
                server.REPORT.format(topic="morning fog").replace("morning", "Morning", 1),
                server.SHORTER.format(topic="Morning fog"),
            ]
            assert await page.locator(".steps li").all_text_contents() == [
                "plan: completed",
                *["write: completed", "review: completedattempt 2"] * 2,  # it starts again with the answer
                "send: completed",
            ]
            info = await app.state.streaming.hub.describe(execution_id)
            assert info.state == "completed"


async def test_the_example_is_cancelled(server: ModuleType) -> None:
    app = server.build_app(delay=0.05)
    with serve(app) as serving:
        async with browser(width=390) as page:
            await start(page, f"{serving.url}/")
            await expect(shown(page)).to_contain_text("1. Say", timeout=PATIENCE_MS)
            await page.get_by_role("button", name="Cancel").click()
            await expect(page.get_by_role("status")).to_have_text("Run cancelled", timeout=PATIENCE_MS)
            await expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
            assert await page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
            await page.go_back()
            await expect(page.get_by_label("Run")).to_have_count(0)


def test_a_folder_that_is_not_built_says_what_to_do(tmp_path: Path) -> None:
    shutil.copy(EXAMPLE / "server.py", tmp_path)
    command = [sys.executable, str(tmp_path / "server.py")]
    done = subprocess.run(command, cwd=EXAMPLE.parents[1], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "npm run build" in done.stderr
