"""Credentials under undocumented names and at undocumented places of an address."""

import time
from typing import Any

import pytest

from lg_streaming.gateway.auth.policy import ANONYMOUS, Policy
from lg_streaming.gateway.auth.url_credentials import take_credentials
from lg_streaming.settings import AuthSettings

JWT = b"eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.s3cret"


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        (b"accessToken=s3cret", b"accessToken=***"),
        (b"X-Access-Token=s3cret", b"X-Access-Token=***"),
        (b"token[]=s3cret", b"token[]=***"),
        (b"?token=s3cret", b"?token=***"),
        (b"tok%00en=s3cret", b"tok%00en=***"),
        (b"a=1;token=s3cret;b=2", b"a=1;token=***;b=2"),
        (JWT, b"***"),
        (JWT + b"=1", b"***"),
        (b"a=?token=" + JWT, b"a=***"),
        (b"a=Token%20" + JWT, b"a=***"),
        (b'a={"t":"' + JWT + b'"}', b"a=***"),
        (b"a=" + JWT.replace(b".", b"%2E"), b"a=***"),
        (b"a=" + JWT + b".four.five", b"a=***"),
    ],
)
async def test_a_token_is_found_at_odd_places(query: bytes, shown: bytes) -> None:
    scope: dict[str, Any] = {"query_string": query}
    found = await take_credentials(Policy(AuthSettings()).use_ticket, scope)
    assert scope["query_string"] == shown
    assert found.token_name is not None
    assert "s3cret" not in found.token_name
    assert "eyJ" not in found.token_name


@pytest.mark.parametrize("name", ["Ticket", "ticket%20", "ticket[]", "TICKET"])
async def test_a_ticket_under_an_odd_spelling_is_void(name: str) -> None:
    policy = Policy(AuthSettings())
    tickets = policy.tickets
    mine = tickets.issue(ANONYMOUS)[0]
    scope: dict[str, Any] = {"query_string": f"{name}={mine}".encode()}
    assert (await take_credentials(policy.use_ticket, scope)).ticket is not None
    assert scope["query_string"] == f"{name}=***".encode()
    assert len(tickets) == 0


async def test_a_long_query_that_nearly_holds_tokens_costs_little() -> None:
    use = Policy(AuthSettings()).use_ticket
    for piece in (b"eyJ", b"eyJaaaa.", b"&eyJaaaa", b"eyJaaaa!", b";", b"=", b"%65yJ"):
        began = time.process_time()
        await take_credentials(use, {"query_string": piece * (16_384 // len(piece))})
        assert time.process_time() - began < 0.1, piece
