"""Connects, pauses and final failures of a client: without a server, a clock or a socket."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lg_streaming.client import SSEClient
from lg_streaming.client.config import ClientConfig, Token, TokenSource
from lg_streaming.client.events import (
    ClientErrorEvent,
    ClientEvent,
    Connected,
    Connecting,
    Disconnected,
    Reconnecting,
    StateChanged,
)
from lg_streaming.client.failures import InterruptedStreamError, error_from_payload
from lg_streaming.client.reconnect import Reconnect
from lg_streaming.errors import CODES, ConnectionLostError, ServerRestartError, StreamingError, TokenExpiredError

URL = "http://127.0.0.1:8000"
LOST = InterruptedStreamError(ConnectionLostError())


class Machine:
    """A state machine, its events, and its pauses."""

    def __init__(
        self, *, random: Callable[[], float] = lambda: 0.0, token: Token | None = None, **options: Any
    ) -> None:
        self.told: list[ClientEvent] = []
        config = ClientConfig(url=URL, **options)
        self.it = Reconnect(lambda: config, TokenSource(token), notify=self.told.append, random=random)
        self.pauses: list[float] = []

    def fail(self, failure: InterruptedStreamError = LOST) -> float:
        """A try that comes to nothing."""
        self.it.on_connecting()
        return self.over(failure)

    def over(self, failure: InterruptedStreamError = LOST) -> float:
        pause = self.it.on_failure(failure)
        self.pauses.append(pause)
        return pause

    def connect(self, *, proves: bool = True) -> None:
        self.it.on_connecting()
        self.it.on_connected("c1")
        if proves:
            self.it.on_healthy()


# ---------------------------------------------------------------- pauses
TABLE = [
    pytest.param({}, 8, [1, 2, 4, 8, 16, 30, 30, 30], id="defaults"),
    pytest.param({"reconnect_delay": 0.5, "backoff_factor": 3}, 5, [0.5, 1.5, 4.5, 13.5, 30], id="steeper"),
    pytest.param({"backoff_factor": 1}, 3, [1, 1, 1], id="constant"),
    pytest.param({"reconnect_delay": 0}, 3, [0, 0, 0], id="at once"),
    pytest.param({"max_reconnect_delay": 3}, 4, [1, 2, 3, 3], id="capped"),
    pytest.param({"reconnect_delay": 9, "max_reconnect_delay": 3}, 2, [3, 3], id="capped from the start"),
]


@pytest.mark.row("CFLOW-35")
@pytest.mark.row("CFLOW-37")
@pytest.mark.parametrize(("options", "tries", "pauses"), TABLE)
def test_pauses_grow_up_to_the_longest(options: dict[str, Any], tries: int, pauses: list[float]) -> None:
    machine = Machine(**options)
    for _ in range(tries):
        machine.fail()
    assert machine.pauses == pauses


@pytest.mark.row("CFLOW-35")
def test_the_defaults() -> None:
    config = ClientConfig(url=URL)
    assert (config.auto_reconnect, config.reconnect_delay, config.max_reconnect_delay) == (True, 1.0, 30.0)
    assert (config.backoff_factor, config.max_reconnect_attempts, config.with_credentials) == (2.0, 0, False)


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=40), st.floats(0, 1))
def test_jitter_shortens_a_pause_by_its_share_at_most(draws: list[float], jitter: float) -> None:
    source = iter(draws)
    machine = Machine(random=lambda: next(source), jitter=jitter)
    for index, draw in enumerate(draws):
        full = min(2.0**index, 30.0)
        assert machine.fail() == pytest.approx(full * (1 - jitter * draw))
        assert full * (1 - jitter) <= machine.pauses[-1] + 1e-9 <= full + 2e-9


@pytest.mark.row("CFLOW-37")
def test_only_a_connection_that_proves_good_starts_the_count_anew() -> None:
    machine = Machine()
    machine.fail()
    machine.connect(proves=False)
    machine.over()
    machine.connect(proves=False)
    machine.over()
    machine.connect(proves=True)
    machine.over()
    assert machine.pauses == [1, 2, 4, 1]


@pytest.mark.row("CFLOW-D8")
def test_one_loss_is_one_try_and_one_pause() -> None:
    machine = Machine()
    machine.connect()
    machine.over()
    machine.it.on_connecting()
    machine.it.on_connected()
    machine.it.on_closed()
    with pytest.raises(RuntimeError):
        machine.over()
    assert [event.attempt for event in machine.told if isinstance(event, Reconnecting)] == [1]


# ---------------------------------------------------------------- what the server wishes
def test_the_servers_wish_comes_before_our_own_pause() -> None:
    machine = Machine()
    machine.connect()
    machine.it.set_retry_hint(0.7)
    assert machine.over() == 0.7


def test_a_wish_that_did_not_help_is_not_followed_more_often_than_our_own_pauses() -> None:
    machine = Machine()
    for _ in range(4):
        machine.it.on_connecting()
        machine.it.set_retry_hint(0.0)
        machine.over()
    assert machine.pauses == [0.0, 2.0, 4.0, 8.0]


def test_a_long_wish_is_kept_to_also_later() -> None:
    machine = Machine()
    machine.fail()
    machine.fail()
    restart = InterruptedStreamError(ServerRestartError(retry_after=60))
    assert machine.fail(restart) == 60


def test_a_wish_counts_for_one_pause() -> None:
    machine = Machine()
    machine.connect()
    machine.it.set_retry_hint(20)
    machine.over()
    assert [machine.fail(), machine.pauses] == [2.0, [20, 2.0]]


# ---------------------------------------------------------------- giving up
@pytest.mark.row("CFLOW-35")
@pytest.mark.row("CFLOW-37")
def test_too_many_tries_are_a_failure() -> None:
    machine = Machine(max_reconnect_attempts=3)
    for _ in range(3):
        machine.fail()
    machine.it.on_connecting()
    with pytest.raises(ConnectionLostError):
        machine.it.on_failure(LOST)
    assert (machine.it.state, machine.pauses) == ("failed", [1, 2, 4])
    last = machine.told[-1]
    assert isinstance(last, Disconnected)
    assert (last.will_reconnect, last.reconnect_delay, last.attempt) == (False, None, 3)


def test_without_a_limit_it_never_gives_up() -> None:
    machine = Machine()
    for _ in range(10_000):
        machine.fail()
    assert machine.it.state == "reconnecting"


@pytest.mark.row("CFLOW-35")
def test_without_auto_reconnect_one_loss_is_the_end() -> None:
    machine = Machine(auto_reconnect=False)
    machine.connect()
    with pytest.raises(ConnectionLostError):
        machine.it.on_failure(LOST)
    assert machine.it.state == "disconnected"


def test_after_a_failure_one_may_begin_again() -> None:
    machine = Machine(max_reconnect_attempts=1)
    machine.fail()
    machine.it.on_connecting()
    with pytest.raises(ConnectionLostError):
        machine.it.on_failure(LOST)
    assert machine.fail() == 1
    assert machine.it.state == "reconnecting"


NOT_TRIED_AGAIN = {code for code, row in CODES.items() if not row.retryable} | {4011, 4091}
"""The table's final errors, and two more: a token that stays expired, and a refused gap."""


@pytest.mark.parametrize("code", CODES)
def test_what_is_final_is_not_tried_again(code: int) -> None:
    row = CODES[code]
    told = {"code": code, "name": row.name, "message": "why", "retryable": row.retryable, "retry_after_ms": 1500}
    machine = Machine()
    machine.it.on_connecting()
    if code in NOT_TRIED_AGAIN:
        with pytest.raises(StreamingError, match="why") as raised:
            machine.it.on_failure(error_from_payload(told))
        assert raised.value.code == code
        assert machine.it.state == "failed"
    else:
        assert machine.it.on_failure(error_from_payload(told)) == 1.5


def test_the_wire_says_whether_an_unknown_code_is_final() -> None:
    told = {"code": 4999, "name": "of_a_later_version", "message": "why", "retryable": True}
    assert Machine().fail(error_from_payload(told)) == 1
    with pytest.raises(StreamingError, match="why"):
        Machine().fail(error_from_payload({**told, "retryable": False}))


@pytest.mark.parametrize("told", [None, [], "no", {}, {"code": "4010"}, {"code": None, "retryable": "yes"}, 7])
def test_nonsense_in_place_of_an_error_is_final(told: object) -> None:
    with pytest.raises(StreamingError) as raised:
        Machine().fail(error_from_payload(told))
    assert raised.value.code == 5000


# ---------------------------------------------------------------- tokens
EXPIRED = InterruptedStreamError(TokenExpiredError())


def test_a_fresh_token_is_tried_at_once_and_once() -> None:
    machine = Machine(token=lambda: "fresh")
    assert machine.fail(EXPIRED) == 0
    machine.it.on_connecting()
    with pytest.raises(TokenExpiredError):
        machine.it.on_failure(EXPIRED)


def test_a_token_that_was_good_for_a_while_may_be_replaced_again() -> None:
    machine = Machine(token=lambda: "fresh")
    for _ in range(3):
        machine.connect()
        machine.over(EXPIRED)
    assert machine.pauses == [0, 0, 0]


def test_a_fixed_token_is_not_tried_again() -> None:
    with pytest.raises(TokenExpiredError):
        Machine(token="fixed").fail(EXPIRED)


# ---------------------------------------------------------------- states and what is told
@pytest.mark.row("CFLOW-36")
@pytest.mark.row("CFLOW-38")
def test_what_is_told_from_the_first_connection_to_the_end() -> None:
    machine = Machine()
    machine.connect()
    machine.over()
    machine.it.on_connecting()
    machine.it.on_connected("c2")
    machine.it.on_closed()
    machine.it.on_closed()
    error = LOST.error
    assert machine.told == [
        StateChanged(state="connecting", previous="disconnected"),
        Connecting(attempt=0),
        StateChanged(state="connected", previous="connecting"),
        Connected(connection_id="c1"),
        ClientErrorEvent(error=error),
        StateChanged(state="reconnecting", previous="connected"),
        Disconnected(will_reconnect=True, reconnect_delay=1, attempt=1, error=error),
        Reconnecting(attempt=1, delay=1),
        Connecting(attempt=1),
        StateChanged(state="connected", previous="reconnecting"),
        Connected(connection_id="c2"),
        StateChanged(state="disconnected", previous="connected"),
        Disconnected(will_reconnect=False, attempt=1),
    ]
    assert machine.it.connections == 2


LEGAL: dict[str, dict[str, str]] = {
    "disconnected": {"on_connecting": "connecting", "on_closed": "disconnected", "on_healthy": "disconnected"},
    "connecting": {
        "on_connected": "connected",
        "on_failure": "reconnecting",
        "on_closed": "disconnected",
        "on_healthy": "connecting",
    },
    "connected": {"on_failure": "reconnecting", "on_closed": "disconnected", "on_healthy": "connected"},
    "reconnecting": {
        "on_connecting": "reconnecting",
        "on_connected": "connected",
        "on_failure": "reconnecting",
        "on_closed": "disconnected",
        "on_healthy": "reconnecting",
    },
    "failed": {"on_connecting": "connecting", "on_closed": "failed", "on_healthy": "failed"},
}
"""For each state what may happen, and where it leads; anything else is a mistake of the caller's."""


@pytest.mark.row("CFLOW-36")
@given(
    st.lists(
        st.sampled_from(["on_connecting", "on_connected", "on_healthy", "on_failure", "refused", "on_closed"]),
        max_size=40,
    )
)
def test_every_order_of_events_leads_where_the_table_says(steps: list[str]) -> None:
    machine = Machine()
    state = "disconnected"
    refusal = InterruptedStreamError(ConnectionLostError(), retryable=False)
    for step in steps:
        method = "on_failure" if step == "refused" else step
        expected = LEGAL[state].get(method)
        if expected is None:
            with pytest.raises(RuntimeError):
                _do(machine, method, LOST)
        elif step == "refused":
            with pytest.raises(ConnectionLostError):
                _do(machine, "on_failure", refusal)
            expected = "failed"
        else:
            _do(machine, step, LOST)
        state = state if expected is None else expected
        assert machine.it.state == state
    changes = [event for event in machine.told if isinstance(event, StateChanged)]
    assert all(before.state == after.previous for before, after in pairwise(changes))


def _do(machine: Machine, step: str, failure: InterruptedStreamError) -> None:
    if step == "on_failure":
        machine.it.on_failure(failure)
    else:
        getattr(machine.it, step)()


# ---------------------------------------------------------------- options
@pytest.mark.row("CFLOW-35")
@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("", {}),
        ("127.0.0.1:8000", {}),
        ("ws://127.0.0.1:8000", {}),
        ("http://", {}),
        ("http://127.0.0.1:8000/?token=x", {}),
        (URL, {"reconnect_delay": -1}),
        (URL, {"backoff_factor": 0.5}),
        (URL, {"jitter": 2}),
        (URL, {"max_reconnect_attempts": -1}),
        (URL, {"connect_timeout": 0}),
        (URL, {"silence_timeout": -1}),
        (URL, {"max_event_bytes": 0}),
    ],
)
def test_options_that_cannot_be_used_are_refused(url: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        ClientConfig(url=url, **options)


def test_an_option_that_is_not_there_is_refused() -> None:
    with pytest.raises(TypeError, match="reconect_delay"):
        ClientConfig(url=URL).with_options({"reconect_delay": 1})


@pytest.mark.parametrize(
    ("options", "interval", "patience"),
    [({}, 15.0, 37.5), ({}, None, None), ({"silence_timeout": 3.0}, 15.0, 3.0), ({"silence_timeout": 3.0}, None, 3.0)],
)
def test_how_long_silence_is_borne(options: dict[str, Any], interval: float | None, patience: float | None) -> None:
    assert ClientConfig(url=URL, **options).silence_limit(interval) == patience


@pytest.mark.parametrize("url", [8000, None, b"http://127.0.0.1", ["http://127.0.0.1"]])
def test_a_url_that_is_no_text_is_refused(url: Any) -> None:
    with pytest.raises(ValueError, match="the url is where the gateway is"):
        SSEClient(url)


@pytest.mark.parametrize("token", [5, b"secret", ["secret"], object()])
def test_a_token_that_is_none_is_refused_before_it_is_used(token: Any) -> None:
    with pytest.raises(ValueError, match="token is a string, or a function that returns one"):
        SSEClient("http://127.0.0.1:1", token=token)
