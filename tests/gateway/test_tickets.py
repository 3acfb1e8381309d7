"""Tickets: once, for a short time, for no more than their owner may."""

from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lg_streaming.errors import OriginError, TokenExpiredError, UnauthorizedError
from lg_streaming.gateway.auth.policy import ANONYMOUS, Policy, Principal
from lg_streaming.gateway.auth.tickets import Tickets
from lg_streaming.settings import AuthSettings
from tests.gateway.tokens import NOW, SECRET, peer, token


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


ALICE = Principal(subject="alice", claims={"sub": "alice", "jti": "1"}, expires_at=NOW + 600)


def numbered(clock: Clock, **limits: int) -> Tickets:
    numbers = count(1)
    return Tickets(clock=clock, monotonic=clock, new_id=lambda: f"ticket-{next(numbers)}", **limits)


def test_a_ticket_is_good_once() -> None:
    tickets = numbered(Clock())
    assert tickets.issue(ALICE) == ("ticket-1", 30)
    assert tickets.use("ticket-1").holder() == ALICE
    with pytest.raises(UnauthorizedError, match="one use"):
        tickets.use("ticket-1").holder()
    assert len(tickets) == 0


@pytest.mark.parametrize("ticket", ["", "ticket-2", "TICKET-1", "ticket-1 ", "\0", "\ud800", "x" * 100_000])
def test_what_was_never_a_ticket_is_none(ticket: str) -> None:
    tickets = numbered(Clock())
    tickets.issue(ALICE)
    with pytest.raises(UnauthorizedError) as raised:
        tickets.use(ticket).holder()
    assert raised.value.code == 4010
    assert len(tickets) == 1


def test_a_ticket_is_good_for_thirty_seconds() -> None:
    clock = Clock()
    tickets = numbered(clock)
    tickets.issue(ALICE)
    tickets.issue(ALICE)
    clock.now += 29.9
    assert tickets.use("ticket-1").holder() == ALICE
    clock.now += 0.1
    with pytest.raises(UnauthorizedError):
        tickets.use("ticket-2").holder()


def test_a_ticket_outlives_no_token() -> None:
    clock = Clock()
    tickets = numbered(clock)
    assert tickets.issue(replace(ALICE, expires_at=NOW + 10))[1] == 10
    clock.now += 10
    with pytest.raises(UnauthorizedError):
        tickets.use("ticket-1").holder()
    with pytest.raises(TokenExpiredError):
        tickets.issue(replace(ALICE, expires_at=NOW + 10))


def test_what_is_redeemed_ends_with_the_token_it_came_from() -> None:
    tickets = numbered(Clock())
    assert tickets.use(tickets.issue(ALICE)[0]).holder().expires_at == NOW + 600


def test_tickets_cannot_be_guessed() -> None:
    tickets = Tickets()
    made = {tickets.issue(ANONYMOUS)[0] for _ in range(1_000)}
    assert len(made) == 1_000
    assert all(len(each) >= 43 for each in made)


def test_one_subject_drops_only_its_own_tickets() -> None:
    tickets = numbered(Clock(), per_subject=3, in_all=10)
    bob = replace(ALICE, subject="bob")
    kept = tickets.issue(bob)[0]
    mine = [tickets.issue(ALICE)[0] for _ in range(50)]
    assert len(tickets) == 4
    assert tickets.use(kept).holder() == bob
    for void in mine[:-3]:
        with pytest.raises(UnauthorizedError):
            tickets.use(void).holder()
    assert [tickets.use(each).holder() for each in mine[-3:]] == [ALICE] * 3


def test_there_are_never_more_than_a_fixed_number() -> None:
    tickets = numbered(Clock(), per_subject=3, in_all=10)
    for number in range(100):
        tickets.issue(replace(ALICE, subject=f"user-{number}"))
        tickets.issue(ANONYMOUS)
    assert len(tickets) == 10


@given(st.lists(st.tuples(st.sampled_from(["issue", "redeem", "wait"]), st.integers(0, 4)), max_size=60))
def test_whatever_happens_a_ticket_is_redeemed_at_most_once_and_in_time(steps: list[tuple[str, int]]) -> None:
    clock = Clock()
    tickets = numbered(clock, per_subject=2, in_all=5)
    issued: dict[str, tuple[str, float]] = {}
    for what, which in steps:
        if what == "issue":
            ticket, expires_in = tickets.issue(replace(ALICE, subject=f"user-{which}"))
            issued[ticket] = (f"user-{which}", clock.now + expires_in)
        elif what == "wait":
            clock.now += 10 * which
        elif issued:
            ticket = list(issued)[which % len(issued)]
            subject, until = issued.pop(ticket)
            try:
                assert tickets.use(ticket).holder().subject == subject
                assert clock.now < until
            except UnauthorizedError:
                pass
            with pytest.raises(UnauthorizedError):
                tickets.use(ticket).holder()
        assert len(tickets) <= 5


# ---------------------------------------------------------------- bound to an execution
def policy(clock: Clock | None = None) -> Policy:
    return Policy(AuthSettings.model_validate({"secret": SECRET}), clock=clock or Clock())


async def test_a_ticket_for_one_execution_opens_that_one_for_reading() -> None:
    door = policy()
    alice = await door.verify(token(lg_streaming=[{"actions": ["read", "control"], "executions": ["**"]}]))
    bound = await door.authenticate(peer(), ticket=door.tickets.issue(alice, execution_id="acme/1")[0])
    assert bound.subject == "alice"
    assert await door.allows(bound, "read", "acme/1", None)
    assert not await door.allows(bound, "control", "acme/1", None)
    assert not await door.allows(bound, "read", "acme/2", "alice")
    assert not await door.allows(bound, "read", "room:acme", None)
    free = await door.authenticate(peer(), ticket=door.tickets.issue(alice)[0])
    assert await door.allows(free, "control", "acme/2", None)


async def test_a_ticket_gives_nothing_that_its_owner_does_not_have() -> None:
    door = policy()
    bound = await door.authenticate(
        peer(), ticket=door.tickets.issue(await door.verify(token()), execution_id="bobs")[0]
    )
    assert not await door.allows(bound, "read", "bobs", "bob")


def test_a_bound_principal_gets_no_ticket_for_anything_else() -> None:
    tickets = numbered(Clock())
    bound = tickets.use(tickets.issue(ALICE, execution_id="exec-1")[0]).holder()
    assert tickets.use(tickets.issue(bound, execution_id="exec-1")[0]).holder().restricted_to == "exec-1"
    assert tickets.use(tickets.issue(bound)[0]).holder().restricted_to == "exec-1"
    with pytest.raises(UnauthorizedError, match="another execution"):
        tickets.issue(bound, execution_id="exec-2")


# ---------------------------------------------------------------- at the door
async def test_a_ticket_wins_over_header_and_cookie() -> None:
    door = policy()
    ticket = door.tickets.issue(await door.verify(token(sub="carol")))[0]
    caller = peer(authorization=f"Bearer {token(sub='bob')}", cookie=f"lg_streaming_token={token()}")
    assert (await door.authenticate(caller, ticket=ticket)).subject == "carol"
    with pytest.raises(UnauthorizedError):  # and a void one is not made good by them
        await door.authenticate(caller, ticket=ticket)
    with pytest.raises(UnauthorizedError):
        await door.authenticate(caller, ticket="")


async def test_a_token_that_is_revoked_meanwhile_voids_its_tickets() -> None:
    door = policy()
    ticket = door.tickets.issue(await door.verify(token(jti="1")))[0]
    door.revoke(jti="1")
    with pytest.raises(UnauthorizedError):
        await door.authenticate(peer(), ticket=ticket)


async def test_a_ticket_does_not_let_another_sites_page_in() -> None:
    door = policy()
    ticket = door.tickets.issue(await door.verify(token()))[0]
    with pytest.raises(OriginError):
        await door.authenticate(peer(origin="https://evil.example.com"), ticket=ticket)
    with pytest.raises(UnauthorizedError):  # it came once, so it is void
        await door.authenticate(peer(origin="http://localhost:8000"), ticket=ticket)


async def test_in_development_a_ticket_does_not_let_others_in() -> None:
    door = Policy(AuthSettings())
    ticket = door.tickets.issue(await door.authenticate(peer()))[0]
    with pytest.raises(UnauthorizedError, match="LG_STREAMING_AUTH__SECRET"):
        await door.authenticate(peer("203.0.113.9"), ticket=ticket)
    with pytest.raises(UnauthorizedError, match="ticket"):
        await door.authenticate(peer(), ticket=ticket)
