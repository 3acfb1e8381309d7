"""The clients of the guides, taken from their pages and run against a server that restarts under them."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI, Response
from fastapi.responses import FileResponse, PlainTextResponse
from playwright.async_api import ConsoleMessage, Page, expect

from lg_streaming.client import SSEClient
from lg_streaming.gateway import Gateway
from lg_streaming.hub import StreamHub
from lg_streaming.settings import StreamingSettings
from tests.docs.fences import blocks_of
from tests.gateway.site import SECRET
from tests.gateway.tokens import token
from tests.support.browser import chromium_page
from tests.support.node import JS, node_executable
from tests.support.server import Server, serve

if TYPE_CHECKING:
    from collections.abc import Generator


GUIDES = Path(__file__).resolve().parents[2] / "docs/guide"
PAGES = [*(GUIDES / "clients").glob("*.md"), GUIDES / "rooms-and-events.md", GUIDES / "slow-readers.md"]
ADDRESS = "http://127.0.0.1:8000"
EXECUTION = "acme/run-1"
PATIENCE = 20.0
PATIENCE_MS = PATIENCE * 1000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of all pages, under the names they are given."""
    for page in PAGES:
        lines = page.read_text(encoding="utf-8").splitlines()
        for block in blocks_of(page):
            _, _, name = lines[block.line - 2].partition('title="')
            if name:
                (tmp_path / name.rstrip('"')).write_text(block.code, encoding="utf-8")
    return tmp_path


class Place:
    """A hub that outlives its server, which may come back at the same address."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.hub = StreamHub(StreamingSettings.model_validate(settings))
        self._folder = folder
        self._port = 0
        self._server: Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @contextmanager
    def serving(self) -> Generator[None]:
        with serve(self._app(), port=self._port, log_config=None) as server:
            self._port = server.port
            yield

    def _app(self) -> FastAPI:
        gateway = Gateway(self.hub)

        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
            await gateway.start()
            yield
            await gateway.shutdown()

        app = FastAPI(lifespan=lifespan)
        gateway.install(app)

        @app.get("/my-token")
        async def my_token() -> Response:
            return PlainTextResponse(token())

        @app.get("/{name}")
        async def file(name: str) -> Response:
            own = self._folder / name
            return FileResponse(own if own.exists() else JS / "node_modules/socket.io-client/dist" / name)

        return app

    def write(self, text: str, *, attempt: int = 1, message_id: str = "m1") -> None:
        emitter = self.hub.emitter(EXECUTION, node_id="write", attempt=attempt, message_id=message_id)
        emitter.event("token", {"content": text})


@pytest.fixture
async def open_place(folder: Path) -> AsyncGenerator[Place]:
    place = Place(folder)
    yield place
    await place.hub.aclose()


@pytest.fixture
async def locked_place(folder: Path) -> AsyncGenerator[Place]:
    place = Place(folder, auth={"secret": SECRET})
    place.hub.open(EXECUTION, owner="alice")
    yield place
    await place.hub.aclose()


# ---------------------------------------------------------------- programs
class Program:
    """A program of a page, at work."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said = ""

    async def until(self, text: str) -> None:
        """Waits until it has printed `text`."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while text not in self.said:
                piece = await self.process.stdout.read(4096)
                assert piece, f"it ended after {self.said!r}: {await self.errors()}"
                self.said += piece.decode()

    async def errors(self) -> str:
        assert self.process.stderr is not None
        return (await self.process.stderr.read()).decode()

    async def end(self) -> tuple[int, str]:
        """Its exit code and all it has printed."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            self.said += (await self.process.stdout.read()).decode()
            return await self.process.wait(), self.said


@asynccontextmanager
async def program(folder: Path, place: Place, *command: str, name: str = "") -> AsyncGenerator[Program]:
    """Runs `command` in `folder`, after the file `name` was given the server's address."""
    if name:
        file = folder / name
        text = file.read_text(encoding="utf-8")
        assert ADDRESS in text
        file.write_text(text.replace(ADDRESS, place.url), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**os.environ, "TOKEN": token()},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Program(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def node(folder: Path, name: str) -> list[str]:
    if not (folder / "node_modules").exists():
        (folder / "node_modules").symlink_to(JS / "node_modules")
    return [node_executable(), name]


def python(_: Path, name: str) -> list[str]:
    return [sys.executable, name]


PROGRAMS = [
    pytest.param(node, "watch.mjs", id="node-socketio"),
    pytest.param(node, "stream.mjs", id="node-sse"),
    pytest.param(python, "watch.py", id="python-socketio"),
    pytest.param(python, "read.py", id="python-client"),
    pytest.param(python, "script.py", id="python-script"),
]


@pytest.mark.parametrize(("how", "name"), PROGRAMS)
async def test_a_program_goes_on_over_a_restart_of_the_server(
    how: Callable[[Path, str], list[str]], name: str, folder: Path, locked_place: Place
) -> None:
    place = locked_place
    async with AsyncExitStack() as stack:
        with place.serving():
            place.write("one ")
            command = [*how(folder, name), EXECUTION]
            running = await stack.enter_async_context(program(folder, place, *command, name=name))
            await running.until("one ")
            place.write("two ")
            await running.until("two ")
        place.write("three ")
        with place.serving():
            await running.until("three ")
            place.write("four")
            await place.hub.close(EXECUTION)
            code, said = await running.end()
    assert code == 0
    texts = [line for line in said.splitlines() if not line.startswith("[")]
    assert "".join(texts).partition("[")[0] == "one two three four"


async def test_a_program_that_is_one_too_many_tries_again(folder: Path) -> None:
    place = Place(folder, auth={"secret": SECRET}, limits={"connections_per_subject": 1})
    place.hub.open(EXECUTION, owner="alice")
    with place.serving():
        async with SSEClient(place.url, token=token()) as other:
            subscription = other.subscribe(EXECUTION)
            await subscription.connect()
            command = [*node(folder, "watch.mjs"), EXECUTION]
            async with program(folder, place, *command, name="watch.mjs") as running:
                assert running.process.stderr is not None
                async with asyncio.timeout(PATIENCE):
                    assert b"4291" in await running.process.stderr.readline()
                await subscription.aclose()
                await running.until("[workflow_start]")
    await place.hub.aclose()


@pytest.mark.parametrize(("how", "name"), PROGRAMS)
async def test_a_program_says_why_it_may_not_read(
    how: Callable[[Path, str], list[str]], name: str, folder: Path, locked_place: Place
) -> None:
    with locked_place.serving():
        async with program(folder, locked_place, *how(folder, name), "somebody-elses", name=name) as running:
            _, said = await running.end()
            assert said == ""
            assert "no such execution" in await running.errors()


@pytest.mark.parametrize(
    ("name", "first", "then"),
    [
        ("all.mjs", "[ 'acme/*' ]", "acme/run-1 workflow_complete"),
        ("room.mjs", "1 are here", "announcement { text: 'Back at noon' }"),
        ("merged.mjs", "token 2 to 2", "workflow_complete 4 to 4"),
        ("stored.mjs", "stored up to", "stored up to"),
    ],
)
async def test_the_programs_of_other_guides(name: str, first: str, then: str, folder: Path, open_place: Place) -> None:
    place = open_place
    file = folder / name
    file.write_text(file.read_text(encoding="utf-8").replace('"exec-1"', f'"{EXECUTION}"'), encoding="utf-8")
    place.write("one")
    with place.serving():
        async with program(folder, place, *node(folder, name), name=name) as running:
            await running.until(first)
            running.said = ""
            place.write("two")
            place.hub.publish("room:team/acme", "announcement", {"text": "Back at noon"})
            await place.hub.close(EXECUTION)
            await running.until(then)


def curls() -> list[str]:
    """The commands of the page about curl that read a stream."""
    text = "".join(block.code for block in blocks_of(GUIDES / "clients/curl.md")).replace("\\\n", "")
    return [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ curl -N")]


@pytest.mark.parametrize("command", curls())
async def test_curl_shows_the_stream(command: str, folder: Path, locked_place: Place) -> None:
    place = locked_place
    place.write("one")
    position = await place.hub.describe(EXECUTION)
    assert position is not None
    given = (
        command.replace("exec-1", EXECUTION).replace("1645bb62:17", f"{position.epoch}:1").replace("$TOKEN", token())
    )
    words = shlex.split(given)
    if "Authorization" not in given:
        words[1:1] = ["-H", f"Authorization: Bearer {token()}"]
    with place.serving():
        words = [word.replace(ADDRESS, place.url) for word in words]
        async with program(folder, place, *words) as running:
            await running.until("connection_status")
            place.write("two")
            await running.until('"two"')
            await place.hub.close(EXECUTION)
            code, said = await running.end()
    assert code == 0
    assert ('"one"' in said) == ("latest" not in command)
    assert "event: end" in said


# ---------------------------------------------------------------- pages
def of_the_page(message: ConsoleMessage) -> bool:
    """Return whether the page's script logged it, and not the browser, which misses an icon."""
    return message.type == "log"


@pytest.mark.browser
async def test_the_route_with_initial_data_and_its_page(tmp_path: Path) -> None:
    page = GUIDES / "event-streams.md"
    route: dict[str, Any] = {"__name__": "app"}
    python_code = [block.code for block in blocks_of(page) if block.language == "python"]
    (script,) = [block.code for block in blocks_of(page) if block.language == "js"]
    exec("".join(python_code), route)
    app: FastAPI = route["app"]
    hub: StreamHub = route["streaming"].hub
    blank = tmp_path / "blank.html"
    blank.write_text("<p></p>")

    @app.get("/")
    async def page_of_the_app() -> Response:
        return FileResponse(blank)

    hub.publish("chat-7", "token", {"content": "old"})
    with serve(app, log_config=None) as server:
        async with chromium_page() as shown:
            await shown.goto(server.url)
            async with shown.expect_console_message(of_the_page, timeout=PATIENCE_MS) as initial:
                await shown.evaluate(f"() => {{ {script} }}")
            assert "What is rain?" in str(await (await initial.value).args[0].json_value())
            async with shown.expect_console_message(of_the_page, timeout=PATIENCE_MS) as live:
                hub.publish("chat-7", "token", {"content": "new"})
            assert (await live.value).text == "new"
            assert (await shown.request.get(f"{server.url}/chats/8/stream")).status == 404
            await hub.close("chat-7")


@pytest.mark.row("PYEV-D5")
@pytest.mark.browser
async def test_the_page_with_event_source(open_place: Place) -> None:
    place = open_place
    address = f"/stream.html?execution={EXECUTION}"
    async with chromium_page() as page:
        texts, state = page.locator("#texts p"), page.locator("#state")
        with place.serving():
            place.write("wrong ")
            await page.goto(place.url + address)
            await expect(texts).to_have_text(["wrong "], timeout=PATIENCE_MS)
            place.write("right ", attempt=2)
            await expect(texts).to_have_text(["right "], timeout=PATIENCE_MS)
            place.write("and <b>", attempt=2, message_id="m2")
            await expect(texts).to_have_text(["right ", "and <b>"], timeout=PATIENCE_MS)
            asked = await asked_on_reload(page)
            assert "after=" in asked
            await expect(texts).to_have_text(["right ", "and <b>"], timeout=PATIENCE_MS)
        place.write("told", attempt=2)
        with place.serving():
            await expect(texts).to_have_text(["right told", "and <b>"], timeout=PATIENCE_MS)
            await place.hub.close(EXECUTION)
            await expect(state).to_have_text("done", timeout=PATIENCE_MS)
            await page.reload()
            await expect(state).to_have_text("done", timeout=PATIENCE_MS)
            await expect(texts).to_have_text(["right told", "and <b>"], timeout=PATIENCE_MS)


@pytest.mark.browser
async def test_the_page_with_the_module(locked_place: Place, open_place: Place) -> None:
    place = open_place
    async with chromium_page() as page:
        texts, state = page.locator("#texts p"), page.locator("#state")
        with place.serving():
            place.write("wrong ")
            await page.goto(f"{place.url}/watch.html?execution={EXECUTION}")
            await expect(texts).to_have_text(["wrong "], timeout=PATIENCE_MS)
            place.write("right ", attempt=2)
            place.write("and <b>", attempt=2, message_id="m2")
            await expect(texts).to_have_text(["right ", "and <b>"], timeout=PATIENCE_MS)
            assert "after=" in await asked_on_reload(page)
            await expect(texts).to_have_text(["right ", "and <b>"], timeout=PATIENCE_MS)
        place.write("told", attempt=2)
        with place.serving():
            await expect(texts).to_have_text(["right told", "and <b>"], timeout=PATIENCE_MS)
            await place.hub.close(EXECUTION)
            await expect(state).to_have_text("ended", timeout=PATIENCE_MS)
            await page.reload()
            await expect(state).to_have_text("ended", timeout=PATIENCE_MS)
            await expect(texts).to_have_text(["right told", "and <b>"], timeout=PATIENCE_MS)
        with locked_place.serving():
            await page.goto(f"{locked_place.url}/watch.html?execution=somebody-elses")
            await expect(state).to_contain_text("token", timeout=PATIENCE_MS)


async def asked_on_reload(page: Page) -> str:
    """The address of the stream that a page asks for when it is loaded again."""
    async with page.expect_request("**/stream?*") as request:
        await page.reload()
    return (await request.value).url


@pytest.mark.browser
@pytest.mark.parametrize("name", ["socket.html", "socketio.html"])
async def test_a_page_with_a_socket(name: str, locked_place: Place) -> None:
    place = locked_place
    async with chromium_page() as page:
        text = page.locator("#text")
        sent: list[str] = []
        page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(str(frame))))
        with place.serving():
            place.write("wrong ")
            await page.goto(f"{place.url}/{name}?execution={EXECUTION}")
            await expect(text).to_have_text("wrong", timeout=PATIENCE_MS)
            place.write("right ", attempt=2)
            await expect(text).to_have_text("right", timeout=PATIENCE_MS)
        place.write("told", attempt=2)
        with place.serving():
            await expect(text).to_have_text("right told", timeout=PATIENCE_MS)
            first, again = (frame for frame in sent if "subscribe_execution" in frame)
            assert '"after"' not in first
            assert '"after"' in again
            await place.hub.close(EXECUTION)
            await expect(page.locator("#state")).to_have_text("ended", timeout=PATIENCE_MS)


@pytest.mark.browser
async def test_a_page_is_told_what_it_may_not_read(locked_place: Place) -> None:
    with locked_place.serving():
        async with chromium_page() as page:
            for name in ("socket.html", "socketio.html"):
                await page.goto(f"{locked_place.url}/{name}?execution=somebody-elses")
                await expect(page.locator("#state")).to_contain_text("no such execution", timeout=PATIENCE_MS)
            await page.goto(f"{locked_place.url}/stream.html?execution=somebody-elses")
            await expect(page.locator("#state")).to_have_text("please log in", timeout=PATIENCE_MS)


TICKETS = """async ([path, token]) => {
    const { open } = await import("/ticket.js");
    let after;
    Object.assign(window, { opened: 0, text: "", over: false });
    async function again() {
        window.opened += 1;
        const source = await open(path, token, { after, lost: again });
        source.addEventListener("token", (event) => {
            after = event.lastEventId;
            window.text += JSON.parse(event.data).data.content;
        });
        source.addEventListener("end", () => { source.close(); window.over = true; });
    }
    await again();
}"""


@pytest.mark.browser
async def test_a_page_with_a_ticket_for_each_stream(folder: Path) -> None:
    (folder / "blank.html").write_text("<p></p>")
    place = Place(folder, auth={"secret": SECRET}, gateway={"max_stream_duration": 0.5})
    place.hub.open(EXECUTION, owner="alice")
    place.write("one ")
    with place.serving():
        async with chromium_page() as page:
            await page.goto(f"{place.url}/blank.html")
            await page.evaluate(TICKETS, [f"/executions/{EXECUTION}/stream", token()])
            await page.wait_for_function("opened > 1", timeout=PATIENCE_MS)
            place.write("two")
            await page.wait_for_function("text.includes('two')", timeout=PATIENCE_MS)
            await place.hub.close(EXECUTION)
            await page.wait_for_function("over", timeout=PATIENCE_MS)
            assert await page.evaluate("text") == "one two"
    await place.hub.aclose()
