"""The pages of `examples/front_ends` when their server's process is killed in mid-answer, and another one follows."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

import pytest
from playwright.async_api import expect

from tests.support.redis_server import RedisServer, free_port
from tests.support.server import ServerProcess, serve_process
from tests.wires.pages.driving import KINDS, PATIENCE_MS, Chat, Kind, Troubles, chat
from tests.wires.pages.site import Site, origin

pytestmark = [pytest.mark.wires, pytest.mark.browser]


async def press(shown: Chat) -> None:
    """Do what the AI SDK's page offers after a lost connection, until the answer goes on."""
    again = shown.page.get_by_role("button", name="Try again")
    await again.click(timeout=PATIENCE_MS)


async def reload(shown: Chat) -> None:
    await shown.page.reload()


async def wait(shown: Chat) -> None:
    """Do nothing: the client comes back by itself."""


RETURNS = {"ai-sdk": press, "use-stream": wait, "use-stream-classic": wait, "copilotkit": reload}


@pytest.fixture
def storage(shared_redis: RedisServer, redis_prefix: str, tmp_path: Path) -> dict[str, str]:
    """Return the variables of processes that share a log and checkpoints."""
    return {
        "CHECKPOINTS": str(tmp_path / "checkpoints.db"),
        "LG_STREAMING_LOG": shared_redis.url,
        "LG_STREAMING_REDIS__PREFIX": redis_prefix,
    }


@pytest.mark.parametrize("name", KINDS)
async def test_a_process_that_is_killed_in_mid_answer_is_followed(
    name: str,
    server: ModuleType,
    built: Callable[[str], Path],
    storage: dict[str, str],
    recorded: Callable[[Kind], None],
) -> None:
    kind, site = KINDS[name], Site(built(KINDS[name].page))
    recorded(kind)
    port, card = free_port(), server.CARD.format(place="Porto")
    site.server = f"http://127.0.0.1:{port}"
    with ExitStack() as stack:
        pages = stack.enter_context(site.serving())
        env = {
            **storage,
            "LG_STREAMING_REDIS__LEASE": "3",  # a loaded machine holds a shorter one up
            "LG_STREAMING_RUNS__ON_ABANDONED": "resume",
            "LG_STREAMING_WIRES__AI_SDK_CLIENTS": "7",
            "LG_STREAMING_GATEWAY__CORS_ORIGINS": json.dumps([origin(pages)]),
        }

        def start() -> ServerProcess:
            return stack.enter_context(serve_process("tests.wires.pages.durable:make()", port=port, env=env))

        first = start()
        async with chat(f"{origin(pages)}/{kind.file}", kind, troubles=Troubles()) as shown:
            await shown.ask("Porto")
            await shown.until_writing()
            first.kill()
            start()
            await RETURNS[name](shown)
            await shown.until_asked()
            await shown.until_texts(server.PLAN.format(place="Porto"), card)
            await shown.answer("Post it")
            await shown.until_texts(server.PLAN.format(place="Porto"), card, server.POSTED)
            await expect(shown.questions).to_have_text(["Porto"])
