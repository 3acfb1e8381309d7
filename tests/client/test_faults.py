"""Broken networks and servers that come and go: a reader gets 1 to N, each once, in order."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, ClassVar, cast

import jwt
import pytest
from engineio import base_client

from lg_streaming.client import Disconnected, SSEClient, StreamClient
from lg_streaming.errors import DeadPeerError, ServerRestartError, TokenExpiredError, UnauthorizedError
from lg_streaming.events import StreamUpdate
from tests.client.conftest import CLIENTS, PATIENCE, Heard, Make, Place, place_with, read_all, seqs
from tests.gateway.site import SECRET
from tests.support.tcp_proxy import TcpProxy, tcp_proxy

Fault = Callable[[TcpProxy], None]


def cut(proxy: TcpProxy) -> None:
    """Cut in the middle of the next piece, also on later connections, and drop the rest of this one."""
    proxy.cut_after = 3_000
    proxy.reset()


FAULTS: dict[str, Fault] = {
    "reset": TcpProxy.reset,
    "finish": TcpProxy.finish,
    "half-open": TcpProxy.freeze,
    "cut": cut,
}


@asynccontextmanager
async def through_proxy(place: Place) -> AsyncGenerator[tuple[TcpProxy, str]]:
    async with tcp_proxy(place.port) as proxy:
        yield proxy, f"http://{proxy.host}:{proxy.port}"


class Feeding:
    """Publishes a run piece by piece, as a reader comes along."""

    def __init__(self, place: Place, count: int, pieces: int) -> None:
        self._place = place
        self._piece = count // pieces
        self._given = 0
        self.count = self._piece * pieces

    async def more(self) -> bool:
        """Publishes the next piece; False at the end of the run."""
        if self._given >= self.count:
            await self._place.hub.close("e")
            return False
        self._place.tokens("e", self._piece, start=self._given)
        self._given += self._piece
        return True

    @property
    def expected(self) -> int:
        """The number after this piece's last update; the run's start comes first."""
        return self._given + 1


async def read_under(
    client: StreamClient, feeding: Feeding, fault: Callable[[], Any]
) -> tuple[list[StreamUpdate], StreamClient]:
    """Reads all; after each piece has come, something breaks."""
    got: list[StreamUpdate] = []
    await feeding.more()
    async with asyncio.timeout(PATIENCE):
        async for update in client.subscribe("e", batch=False):
            got.append(update)
            if update.metadata.sequence_number == feeding.expected:
                broken = fault()
                if asyncio.iscoroutine(broken):
                    await broken
                await feeding.more()
    return got, client


@pytest.mark.row("CFLOW-40")
@pytest.mark.row("PYEV-17")
@pytest.mark.parametrize("name", FAULTS)
async def test_a_broken_network_loses_nothing(name: str, place: Place, make: Make) -> None:
    async with through_proxy(place) as (proxy, url):
        client = make(url, silence_timeout=0.5 if name == "half-open" else None)

        def thaw(event: Disconnected) -> None:
            if isinstance(event.error, DeadPeerError):
                proxy.reset()
                proxy.thaw()

        def fault() -> None:
            FAULTS[name](proxy)

        client.on("disconnected", thaw)
        feeding = Feeding(place, 60, 3 if name == "half-open" else 6)
        got, _ = await read_under(client, feeding, fault)
        assert seqs(got) == list(range(1, feeding.count + 3))
        figures = client.statistics()
        assert figures.connections > 1
        assert figures.gaps == 0


async def test_a_client_that_is_cut_again_and_again_still_gets_there(place: Place, make: Make) -> None:
    """Every connection breaks after a few kilobytes, so it takes many, and each begins where the last one ended."""
    place.tokens("e", 400)
    await place.hub.close("e")
    async with through_proxy(place) as (proxy, url):
        proxy.cut_after = 6_000
        client = make(url)
        assert seqs(await read_all(client, batch=False)) == list(range(1, 403))
        assert proxy.connections > 5


@pytest.mark.row("CFLOW-38")
async def test_a_server_that_is_silent_counts_as_dead(place: Place, make: Make) -> None:
    place.tokens("e", 3)
    async with through_proxy(place) as (proxy, url):
        client = make(url, silence_timeout=0.3)
        heard, came = Heard(client), asyncio.Event()
        client.on_update(lambda update: came.set() if update.metadata.sequence_number == 4 else None)
        reading = asyncio.create_task(read_all(client))
        await asyncio.wait_for(came.wait(), PATIENCE)
        proxy.freeze()
        async with asyncio.timeout(2):  # far less than anything else would notice it
            lost = await heard.until("disconnected")
        assert isinstance(lost.error, DeadPeerError)
        assert lost.will_reconnect
        proxy.reset()
        proxy.thaw()
        await heard.until("connected", 2)
        await place.hub.close("e")
        assert seqs(await reading) == [1, 2, 3, 4, 5]
        await client.aclose()
        assert not cast("list[object]", base_client.connected_clients), (
            "python-engineio keeps its clients in a list of the whole process"
        )


async def test_heartbeats_keep_a_quiet_connection(make: Make) -> None:
    async with place_with(gateway={"heartbeat_interval": 0.1}) as place:
        with place.serving():
            place.tokens("e", 1)
            client = make(place.url)
            heard = Heard(client)
            reading = asyncio.create_task(read_all(client))
            await heard.until("connected")
            await asyncio.sleep(0.6)  # several times the 0.25 s after which silence counts as death
            await place.hub.close("e")
            assert seqs(await reading) == [1, 2, 3]
            assert client.statistics().connections == 1


@pytest.mark.row("CFLOW-38")
async def test_a_restart_of_the_server(make: Make) -> None:
    async with place_with(patient=True) as place:
        with place.serving():
            client = make(place.url)
            heard = Heard(client)
            place.tokens("e", 10)
            got: list[int] = []
            client.on_update(lambda update: got.append(update.metadata.sequence_number))
            reading = asyncio.create_task(read_all(client))
            await heard.until("connected")
            while len(got) < 11:
                await asyncio.sleep(0.01)
        lost = await heard.until("disconnected")
        assert isinstance(lost.error, ServerRestartError)
        assert 0.5 <= lost.reconnect_delay <= 3, "the server says when to come back"
        place.tokens("e", 10, start=10)
        with place.serving():
            await place.hub.close("e")
            assert seqs(await reading) == list(range(1, 23))


async def test_from_now_on_means_since_the_first_connection(make: Make) -> None:
    """A reader from the latest on that is cut before its first update misses no later update."""
    async with place_with() as place:
        with place.serving():
            place.tokens("old", 5)
            async with through_proxy(place) as (proxy, url):
                client = make(url)
                heard = Heard(client)
                known, unknown = client.subscribe("old", after="latest"), client.subscribe("new", after="latest")
                for subscription in (known, unknown):
                    await subscription.connect()
                proxy.cut_after = 0
                proxy.reset()
                reading = [asyncio.create_task(_all(each)) for each in (known, unknown)]
                await heard.until("disconnected")
                for name in ("old", "new"):
                    place.tokens(name, 2)
                    await place.hub.close(name)
                proxy.cut_after = None
                first, second = await asyncio.gather(*reading)
                assert seqs(first) == [7, 8, 9]
                assert seqs(second) == [1, 2, 3, 4]


async def _all(subscription: Any) -> list[StreamUpdate]:
    async with asyncio.timeout(PATIENCE):
        return [update async for update in subscription]


# ---------------------------------------------------------------- tokens
def bearer(lifetime: float = 600) -> str:
    return jwt.encode({"sub": "alice", "exp": time.time() + lifetime}, SECRET, "HS256")


@asynccontextmanager
async def locked(**settings: Any) -> AsyncGenerator[Place]:
    async with place_with(auth={"secret": SECRET, "leeway": 0}, **settings) as place:
        place.hub.open("e", owner="alice")
        with place.serving():
            yield place


async def test_a_token_that_expires_is_replaced(make: Make) -> None:
    given: list[str] = []

    async def fresh() -> str:
        given.append(bearer(1.5 if not given else 600))
        return given[-1]

    async with locked() as place:
        client = make(place.url, token=fresh)
        heard = Heard(client)
        reading = asyncio.create_task(read_all(client))
        await heard.until("connected")
        place.tokens("e", 5)
        if make.kind == "sse":
            assert isinstance((await heard.until("disconnected")).error, TokenExpiredError)
            await heard.until("connected", 2)
        else:
            while len(given) < 2:
                await asyncio.sleep(0.01)
            await asyncio.sleep(1.7)  # longer than the first token lasts
            assert heard.of("disconnected") == []
        place.tokens("e", 5, start=5)
        await place.hub.close("e")
        assert seqs(await reading) == list(range(1, 13))
        assert len(given) == 2


async def test_a_stale_token_is_asked_for_again_once(make: Make) -> None:
    answers = [bearer(-60), bearer()]
    async with locked() as place:
        place.tokens("e", 1)
        await place.hub.close("e")
        client = make(place.url, token=lambda: answers.pop(0))
        assert seqs(await read_all(client)) == [1, 2, 3]
        hopeless = make(place.url, token=lambda: bearer(-60))
        with pytest.raises(TokenExpiredError):
            await read_all(hopeless)
        with pytest.raises(UnauthorizedError):
            await read_all(make(place.url, token="x.y.z"))


async def test_a_callable_that_fails_is_asked_again(make: Make) -> None:
    answers: list[Any] = [OSError("the identity provider is away"), bearer()]

    def flaky() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with locked() as place:
        place.tokens("e", 1)
        await place.hub.close("e")
        client = make(place.url, token=flaky)
        heard = Heard(client)
        assert seqs(await read_all(client)) == [1, 2, 3]
        assert "identity provider" in heard.of("disconnected")[0].error.message


@pytest.mark.parametrize("on_gap", ["oldest", "tail"])
@pytest.mark.parametrize("kind", CLIENTS)
async def test_that_the_server_began_anew_is_told_once_however_often_one_comes_back(kind: str, on_gap: str) -> None:
    """Also where the filter has let nothing through since."""
    async with place_with() as place:
        with place.serving():
            place.tokens("e", 5)
            async with through_proxy(place) as (proxy, url):
                client = CLIENTS[kind](url, reconnect_delay=0.01, max_reconnect_delay=0.02)
                heard, got = Heard(client), list[StreamUpdate]()

                async def read() -> None:
                    wanted: dict[str, Any] = {"events": ["note:*"], "after": "other:2", "on_gap": on_gap}
                    async for each in client.subscribe("e", **wanted):
                        got.append(each)

                reading = asyncio.create_task(read())
                await heard.until("gap")
                for count in range(2, 5):
                    proxy.reset()
                    await heard.until("connected", count)
                proxy.reset()
                place.hub.publish("e", "note:late", {"message": "said while nobody was connected"})
                await place.hub.close("e")
                async with asyncio.timeout(PATIENCE):
                    await reading
                await client.aclose()
                assert [each.type for each in got] == ["gap", "note:late"]
                assert [each.reason for each in heard.of("gap")] == ["epoch_changed"]


# ---------------------------------------------------------------- many times
@pytest.mark.soak
@pytest.mark.parametrize("kind", CLIENTS)
async def test_ten_thousand_resumes(kind: str) -> None:
    seed = random.randrange(2**32)
    draw = random.Random(seed)
    async with place_with(retention={"max_updates": 200_000, "max_bytes": 2**28}) as place:
        with place.serving():
            async with through_proxy(place) as (proxy, url):
                client = CLIENTS[kind](url, reconnect_delay=0.0, max_reconnect_delay=0.001)
                try:
                    place.tokens("e", 10)
                    got, given = 0, 11
                    async with asyncio.timeout(3_000):
                        async for update in client.subscribe("e", follow=True, batch=draw.random() < 0.5):
                            assert update.metadata.sequence_number == got + 1, f"seed {seed}"
                            got += 1
                            if got >= given:
                                if client.statistics().connections > 10_000:
                                    break
                                given += 10
                                place.tokens("e", 10)
                                draw.choice([TcpProxy.reset, TcpProxy.finish])(proxy)
                    assert client.statistics().gaps == 0
                finally:
                    await client.aclose()


async def test_closing_at_the_moment_the_answer_arrives_does_not_wait_for_a_greeting() -> None:
    """A cancellation does not reach a wait whose result is there: the next wait must not begin."""
    arrives = asyncio.Event()

    class Silent:
        """A response without a body."""

        status_code = 200
        headers: ClassVar = {"content-type": "text/event-stream"}

        async def aiter_bytes(self) -> AsyncGenerator[bytes]:
            await asyncio.Event().wait()
            yield b""

    async def open_stream(*_: object) -> tuple[Any, AsyncExitStack]:
        await arrives.wait()
        return Silent(), AsyncExitStack()

    client = SSEClient("http://127.0.0.1:9", connect_timeout=30)
    cast("Any", client).open = open_stream
    subscription = client.subscribe("e")
    connecting = asyncio.create_task(subscription.connect())
    await asyncio.sleep(0)
    arrives.set()
    await subscription.aclose()
    await asyncio.wait_for(connecting, 2)
    await client.aclose()
