"""Owners as databases have them: numbers and UUIDs are compared with a token's `sub` as their text."""

import json
import time
from collections.abc import Callable
from enum import IntEnum, StrEnum
from fractions import Fraction
from typing import Any
from uuid import UUID

import httpx2
import jwt
import numpy as np
import pytest
from fastapi import FastAPI
from langchain_core.runnables import RunnableLambda

from lg_streaming import StreamingModule
from lg_streaming.errors import BadRequestError
from lg_streaming.settings import AuthSettings, StreamingSettings
from tests.gateway.site import SECRET
from tests.support.server import serve

AN_ID = UUID("12345678-1234-5678-1234-567812345678")


class Team(IntEnum):
    BLUE = 7


class Name(StrEnum):
    ALICE = "alice"


OWNERS: list[tuple[Any, str]] = [
    (42, "42"),
    (0, "0"),
    (-1, "-1"),
    (2**70, str(2**70)),
    (np.int64(9), "9"),
    (Team.BLUE, "7"),
    (Name.ALICE, "alice"),
    (AN_ID, str(AN_ID)),
    ("alice", "alice"),
    ("42", "42"),
]
NOT_OWNERS: list[Any] = [4.5, 42.0, True, b"alice", "", ["alice"], {"id": 1}, object(), Fraction(1, 2), float("nan")]


@pytest.fixture
def streaming() -> StreamingModule:
    return StreamingModule(StreamingSettings(auth=AuthSettings.model_validate({"secret": SECRET})))


def ways(streaming: StreamingModule) -> dict[str, Callable[[str, Any], object]]:
    hub = streaming.hub

    def by_block(execution_id: str, owner: Any) -> None:
        with streaming.execution(execution_id, owner=owner):
            pass

    def by_config(execution_id: str, owner: Any) -> None:
        config = streaming.config(execution_id=execution_id, owner=owner)
        RunnableLambda(str).invoke("x", config)

    return {
        "open": lambda execution_id, owner: hub.open(execution_id, owner=owner),
        "create": lambda execution_id, owner: hub.create(execution_id, owner=owner),
        "enter_run": lambda execution_id, owner: hub.runs.join_run(execution_id, owner=owner),
        "execution": by_block,
        "config": by_config,
    }


@pytest.mark.parametrize("way", ["open", "create", "enter_run", "execution", "config"])
async def test_owners_count_as_their_text_wherever_they_are_given(streaming: StreamingModule, way: str) -> None:
    for number, (owner, text) in enumerate(OWNERS):
        ways(streaming)[way](f"e{number}", owner)
        state = await streaming.hub.describe(f"e{number}")
        assert state is not None
        assert state.owner == text
        info = streaming.hub.info(f"e{number}")
        assert info is not None
        assert type(info.owner) is str
    await streaming.aclose()


def _shown(owner: object) -> str:
    """Without an address: every process must give a test the same name."""
    return "object" if type(owner) is object else repr(owner)


@pytest.mark.parametrize("owner", NOT_OWNERS, ids=_shown)
@pytest.mark.parametrize("way", ["open", "create", "enter_run", "execution", "config"])
def test_what_is_no_owner_is_refused_where_it_is_given(streaming: StreamingModule, way: str, owner: Any) -> None:
    with pytest.raises(BadRequestError, match="owner is"):
        ways(streaming)[way]("e", owner)
    assert streaming.hub.info("e") is None


@pytest.mark.parametrize("owner", NOT_OWNERS, ids=_shown)
def test_a_block_and_a_config_refuse_it_at_once(streaming: StreamingModule, owner: Any) -> None:
    with pytest.raises(BadRequestError, match="owner is"):
        streaming.execution("e", owner=owner)
    with pytest.raises(BadRequestError, match="owner is"):
        streaming.config(execution_id="e", owner=owner)


async def test_tokens_of_numbers_read_what_the_number_owns(streaming: StreamingModule) -> None:
    app = FastAPI()
    streaming.install(app)
    for execution_id, owner in (("of-42", 42), ("of-7", 7), ("of-uuid", AN_ID)):
        streaming.hub.open(execution_id, owner=owner)

    def token(sub: Any) -> str:
        claims = json.dumps({"sub": sub, "exp": int(time.time()) + 600}).encode()
        return jwt.api_jws.encode(claims, SECRET, "HS256")

    with serve(app) as server:
        async with httpx2.AsyncClient() as http:

            async def status(sub: Any, execution_id: str) -> int:
                headers = {"Authorization": f"Bearer {token(sub)}"}
                return (await http.get(f"{server.url}/executions/{execution_id}", headers=headers)).status_code

            assert [await status(sub, "of-42") for sub in (42, "42", 43, "042")] == [200, 200, 403, 403]
            assert await status(str(AN_ID), "of-uuid") == 200
            assert [await status(sub, "of-42") for sub in (42.0, True, None, [42], {"id": 42})] == [401] * 5
            streaming.revoke(subject=42)
            assert [await status(sub, name) for sub, name in ((42, "of-42"), ("42", "of-42"), (7, "of-7"))] == [
                401,
                401,
                200,
            ]
