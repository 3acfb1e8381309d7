"""Faults between the stock clients and the graph: servers that stop, are killed, are several; readers that are slow."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from langgraph_sdk.errors import NotFoundError

from tests.support.node import NodeClient, node_process
from tests.support.redis_server import RedisServer, redis_server
from tests.support.server import ServerProcess
from tests.support.tcp_proxy import TcpProxy, tcp_proxy
from tests.wires.langgraph.graphs import open_gate
from tests.wires.langgraph.places import JS, serving
from tests.wires.langgraph.python_checks import client_of, human, only_text, read

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore:Reconnecting")]

TUPLES: Any = ["values", "messages-tuple"]
WORDS = "say one two |{gate}| three"
TEXT = "one two three"
STOP = 1
"""Seconds that a stopped server waits for its connections."""


@dataclass
class Fleet:
    """Servers with a log and checkpoints in common, behind one address.

    Attributes:
        proxy: The address. Its `target` is the server that gets new connections.
        gates: The folder of the gates.
        env: Variables of the servers' environment.
    """

    proxy: TcpProxy
    gates: Path
    env: dict[str, str]
    stack: ExitStack
    servers: list[ServerProcess] = field(default_factory=list[ServerProcess])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.proxy.port}"

    async def start(self) -> ServerProcess:
        """Start a server, which gets the new connections."""
        making = serving(self.gates, self.env, timeout_graceful_shutdown=STOP)
        server = await asyncio.to_thread(self.stack.enter_context, making)
        self.servers.append(server)
        self.proxy.target = server.port
        return server

    def open(self, gate: str) -> None:
        open_gate(self.gates, gate)

    async def connected(self, count: int) -> None:
        """Wait until there have been so many connections."""
        async with asyncio.timeout(20):
            while self.proxy.connections < count:
                await asyncio.sleep(0.02)


@asynccontextmanager
async def fleet_of(folder: Path, log: str | None = None, prefix: str = "lg", **settings: Any) -> AsyncGenerator[Fleet]:
    gates = folder / "gates"
    gates.mkdir()
    redis = {"prefix": prefix, "lease": 1.0, "check_interval": 0.5}
    settings = {"runs": {"shutdown_grace": 0.1}, **({"redis": redis} if log else {}), **settings}
    env = {
        "CHECKPOINTS": str(folder / "checkpoints.db"),
        "SETTINGS": json.dumps(settings),
        **({"LOG": log} if log else {}),
    }
    with ExitStack() as stack:
        async with tcp_proxy(0) as proxy:
            fleet = Fleet(proxy, gates, env, stack)
            await fleet.start()
            yield fleet
        await asyncio.to_thread(stack.close)


@dataclass
class Watched:
    """A run that a client of a kind started, as the client shows it."""

    text: str = ""
    values: Any = None
    failed: str | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def shows(self, text: str) -> None:
        async with asyncio.timeout(20):
            while text not in self.text:
                assert not self.done.is_set(), self
                self.changed.clear()
                await self.changed.wait()

    async def end(self) -> None:
        async with asyncio.timeout(30):
            await self.done.wait()


@asynccontextmanager
async def python_watch(url: str, text: str) -> AsyncGenerator[Watched]:
    """A run that the Python client started and reads."""
    watched = Watched()

    async def follow() -> None:
        try:
            async with client_of(url) as client:
                thread = (await client.threads.create())["thread_id"]
                stream = client.runs.stream(
                    thread, "agent", input=human(text), stream_mode=TUPLES, stream_resumable=True
                )
                async for frame in stream:
                    if frame.event == "messages":
                        watched.text += frame.data[0]["content"]
                    elif frame.event == "values":
                        watched.values = frame.data
                    elif frame.event == "error":
                        watched.failed = str(frame.data)
                    watched.changed.set()
        except Exception as error:  # noqa: BLE001
            watched.failed = repr(error)
        finally:
            watched.done.set()
            watched.changed.set()

    following = asyncio.create_task(follow())
    try:
        yield watched
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


@asynccontextmanager
async def javascript_watch(url: str, text: str, sdk: str = "@langchain/langgraph-sdk") -> AsyncGenerator[Watched]:
    """A run that the JavaScript client started and reads."""
    watched = Watched()

    async def follow(node: NodeClient) -> None:
        while not watched.done.is_set():
            line = await node.next(timeout=30)
            match line["type"]:
                case "text":
                    watched.text += line["text"]
                case "values":
                    watched.values = line["values"]
                case _:
                    watched.failed = line["error"]
                    watched.done.set()
            watched.changed.set()

    async with node_process(str(JS / "watch.mjs"), url, text, sdk) as node:
        following = asyncio.create_task(follow(node))
        try:
            yield watched
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


Watch = Callable[[str, str], Any]
LONG = pytest.mark.wires
CLIENTS = pytest.mark.parametrize("watch", [pytest.param(python_watch, marks=LONG), javascript_watch])
"""Both clients; `make test` has one of them."""


@pytest.fixture
def log(shared_redis: RedisServer) -> str:
    return shared_redis.url


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@LONG
@CLIENTS
async def test_a_reader_moves_from_one_server_to_the_other(
    watch: Watch, folder: Path, log: str, redis_prefix: str
) -> None:
    """The process that serves a reader is not the one that runs the graph; the address has both."""
    async with fleet_of(folder, log, redis_prefix) as fleet:
        await fleet.start()
        async with watch(fleet.url, WORDS.format(gate="g")) as watched:
            await watched.shows("one two")
            fleet.proxy.target = fleet.servers[0].port
            fleet.proxy.reset()
            fleet.open("g")
            await watched.end()
        assert (watched.failed, watched.text) == (None, TEXT)
        assert watched.values["messages"][-1]["content"] == TEXT


@CLIENTS
@pytest.mark.parametrize("how", ["stop", pytest.param("kill", marks=LONG)])
async def test_a_gateway_restarts_in_the_middle(
    how: str, watch: Watch, folder: Path, log: str, redis_prefix: str
) -> None:
    """The gateway of a reader ends and another one takes its place, while the run goes on elsewhere."""
    async with fleet_of(folder, log, redis_prefix) as fleet:
        runner = fleet.servers[0]
        async with watch(fleet.url, WORDS.format(gate="g")) as watched:
            await watched.shows("one two")
            gateway = await fleet.start()
            fleet.proxy.reset()
            await fleet.connected(fleet.proxy.connections + 1)  # the reader comes back through the second process
            await asyncio.to_thread(getattr(gateway, how))
            await fleet.start()
            fleet.open("g")
            await watched.end()
        assert runner.process.poll() is None
        assert (watched.failed, watched.text) == (None, TEXT)
        assert watched.values["messages"][-1]["content"] == TEXT


@CLIENTS
async def test_the_only_process_stops_in_the_middle(watch: Watch, folder: Path) -> None:
    """With the log in memory the run ends with its process: the client gets an error, and not a text cut short."""
    async with fleet_of(folder) as fleet:
        async with watch(fleet.url, WORDS.format(gate="g")) as watched:
            await watched.shows("one two")
            await asyncio.to_thread(fleet.servers[0].stop)
            await fleet.start()
            await watched.end()
        assert watched.failed is not None
        assert watched.text.strip() == "one two"


@CLIENTS
async def test_the_runs_process_is_killed(watch: Watch, folder: Path, log: str, redis_prefix: str) -> None:
    """On Redis another process goes on with the run; the final values have the exact text once."""
    async with fleet_of(folder, log, redis_prefix, runs={"on_abandoned": "resume", "shutdown_grace": 0.1}) as fleet:
        async with watch(fleet.url, WORDS.format(gate="g")) as watched:
            await watched.shows("one two")
            await fleet.start()
            await asyncio.to_thread(fleet.servers[0].kill)
            fleet.open("g")
            await watched.end()
        assert watched.failed is None
        assert [each["content"] for each in watched.values["messages"]][1:] == [TEXT]


@LONG
async def test_a_killed_run_ends_with_an_error(folder: Path, log: str, redis_prefix: str) -> None:
    """Without `on_abandoned="resume"` the run ends; the next one of its thread works."""
    async with fleet_of(folder, log, redis_prefix) as fleet, client_of(fleet.url) as client:
        thread = (await client.threads.create())["thread_id"]
        run = await client.runs.create(thread, "agent", input=human(WORDS.format(gate="g")), stream_mode=TUPLES)
        await fleet.start()
        stream = client.runs.join_stream(thread, run["run_id"], last_event_id="-1")
        killed: list[asyncio.Task[None]] = []

        def kill(text: str) -> None:
            if "two" in text and not killed:
                killed.append(asyncio.create_task(asyncio.to_thread(fleet.servers[0].kill)))

        frames = await read(stream, kill)
        assert killed
        await killed[0]
        assert frames[-1].event == "error"
        assert only_text(frames).strip() == "one two"
        assert (await client.runs.get(thread, run["run_id"]))["status"] in ("timeout", "error")
        values = await client.runs.wait(thread, "agent", input=human("say next"))
        assert values["messages"][-1]["content"] == "next"


async def test_an_interrupt_is_answered_after_a_restart_on_redis(folder: Path, log: str, redis_prefix: str) -> None:
    await answer_after_a_restart(folder, log, redis_prefix)


async def test_an_interrupt_is_answered_after_a_restart_of_the_memory_log(folder: Path) -> None:
    """The checkpoints are all that is left."""
    await answer_after_a_restart(folder, None, "lg")


async def answer_after_a_restart(folder: Path, log: str | None, prefix: str) -> None:
    async with fleet_of(folder, log, prefix) as fleet:
        async with client_of(fleet.url) as client:
            thread = (await client.threads.create())["thread_id"]
            asked = await client.runs.wait(thread, "agent", input=human("ask"))
            assert asked["__interrupt__"]
        await asyncio.to_thread(fleet.servers[0].stop)
        await fleet.start()
        async with client_of(fleet.url) as client:
            state = await client.threads.get_state(thread)
            assert state["tasks"][0]["interrupts"][0]["id"] == asked["__interrupt__"][0]["id"]

            async def answer() -> Any:
                stream = client.runs.stream(thread, "agent", command={"resume": "late"}, stream_mode="values")
                return await read(stream)

            frames = await answer()
            assert frames[-1].data["messages"][-1]["content"] == "answer: late"
            assert (await client.threads.get(thread))["status"] == "idle"


@pytest.mark.parametrize("how", ["a restart", "the longest duration"])
async def test_a_stream_that_is_cut_has_no_tidy_end(how: str, folder: Path) -> None:
    """The chunked body lacks its last chunk, so that no client takes it for complete."""
    limit = {"max_stream_duration": 0.3 if how == "the longest duration" else None}
    async with fleet_of(folder, gateway=limit) as fleet, httpx2.AsyncClient(base_url=fleet.url) as http:
        thread = (await http.post("/threads", json={})).json()["thread_id"]
        body = {"assistant_id": "agent", "input": human(WORDS.format(gate="g")), "stream_mode": TUPLES}
        got: list[bytes] = []

        async def start() -> None:
            async with http.stream("POST", f"/threads/{thread}/runs/stream", json=body) as response:
                async for part in response.aiter_bytes():
                    got.append(part)
                    if b"event: messages" in part and how == "a restart":
                        fleet.servers[0].process.terminate()

        with pytest.raises(httpx2.RemoteProtocolError):
            await start()
        assert b"event: messages" in b"".join(got)


@LONG
async def test_a_server_cuts_its_streams_in_the_clients_way(folder: Path) -> None:
    """Each stream lives half a second at most. The oldest client takes a tidy end for the end of the run."""
    async with fleet_of(folder, gateway={"max_stream_duration": 0.5}) as fleet:
        async with javascript_watch(fleet.url, WORDS.format(gate="g"), "sdk-1.11.0") as watched:
            await watched.shows("one two")
            await fleet.connected(fleet.proxy.connections + 2)
            fleet.open("g")
            await watched.end()
        assert (watched.failed, watched.text) == (None, TEXT)


@CLIENTS
async def test_a_cut_connection_below_a_path(watch: Watch, folder: Path) -> None:
    """Clients join the places of a response to their base URL, with its path."""
    async with fleet_of(folder, wires={"langgraph_path": "/api/lg"}) as fleet:
        async with watch(f"{fleet.url}/api/lg", WORDS.format(gate="g")) as watched:
            await watched.shows("one two")
            fleet.proxy.reset()
            fleet.open("g")
            await watched.end()
        assert (watched.failed, watched.text) == (None, TEXT)


async def test_a_slow_reader_delays_no_one(folder: Path) -> None:
    """A reader that takes nothing while the run goes on gets all of it later; others have it at once."""
    async with fleet_of(folder) as fleet, tcp_proxy(fleet.servers[0].port) as slow:
        near, far = f"http://127.0.0.1:{fleet.servers[0].port}", f"http://127.0.0.1:{slow.port}"
        async with client_of(near) as client, client_of(far) as slow_client:
            thread = (await client.threads.create())["thread_id"]
            run = await client.runs.create(thread, "agent", input=human("say |g|"), stream_mode=TUPLES)
            ahead = await client.runs.create(thread, "agent", input=human("count"), stream_mode=TUPLES)
            reading = asyncio.create_task(
                read(slow_client.runs.join_stream(thread, ahead["run_id"], last_event_id="-1"))
            )
            while not slow.connections:
                await asyncio.sleep(0.01)
            slow.freeze()
            fleet.open("g")
            await client.runs.join(thread, run["run_id"])
            frames = await read(client.runs.join_stream(thread, ahead["run_id"], last_event_id="-1"))
            whole = "".join(f"w{number} " for number in range(3000))
            assert only_text(frames) == whole
            assert not reading.done()
            slow.thaw()
            assert only_text(await reading) == whole


async def test_a_late_reader_of_an_evicted_log_gets_the_values(folder: Path) -> None:
    """Most of the run's updates are gone: the newest values heal what is missing."""
    async with fleet_of(folder, retention={"max_updates": 100}) as fleet, client_of(fleet.url) as client:
        thread = (await client.threads.create())["thread_id"]
        values = await client.runs.wait(thread, "agent", input=human("count"))
        assert len(values["messages"]) == 2
        (run,) = await client.runs.list(thread)
        late = client.runs.join_stream(thread, run["run_id"], last_event_id="-1", stream_mode=TUPLES)
        frames = await read(late)
        assert frames[-1].event in ("values", "end")
        final = [frame.data for frame in frames if frame.event == "values"][-1]
        assert final["messages"] == values["messages"]
        assert (await client.runs.join(thread, run["run_id"]))["messages"] == values["messages"]


async def test_a_deleted_thread_takes_its_run_with_it(folder: Path) -> None:
    async with fleet_of(folder) as fleet, client_of(fleet.url) as client:
        thread = (await client.threads.create())["thread_id"]
        run = await client.runs.create(thread, "agent", input=human(WORDS.format(gate="g")))
        await client.threads.delete(thread)
        with pytest.raises(NotFoundError):
            await client.threads.get_state(thread)
        with pytest.raises(NotFoundError):
            await client.runs.get(thread, run["run_id"])


async def test_a_thread_whose_updates_are_lost_goes_on(folder: Path) -> None:
    """Redis restarts without its data: the next run counts its updates from 1, and its reader gets the end."""
    with redis_server() as lost:
        async with fleet_of(folder, lost.url) as fleet, client_of(fleet.url) as client:
            thread = (await client.threads.create())["thread_id"]
            await client.runs.wait(thread, "agent", input=human("say one"))
            lost.flush()
            async with asyncio.timeout(20):
                values = await client.runs.wait(thread, "agent", input=human("say two"))
                frames = await read(client.runs.stream(thread, "agent", input=human("say three"), stream_mode=TUPLES))
        assert [each["content"] for each in values["messages"]] == ["say one", "one", "say two", "two"]
        assert only_text(frames) == "three"
