"""Logins on a real server: a client without one is closed, and each identity is checked."""

from contextlib import AsyncExitStack

import httpx2
import pytest
from websockets.exceptions import InvalidStatus

from tests.gateway.site import raw_client, site
from tests.gateway.tokens import KEYS, SECRET, pem, token


@pytest.mark.row("FLOW-08")
async def test_where_tokens_are_required_nobody_connects_without_one() -> None:
    with site(auth={"secret": SECRET}) as place:
        place.hub.open("exec-1", owner="alice")
        for auth in ("", "{}", '{"token": ""}', '{"token": null}', '{"userId": "alice"}'):
            async with raw_client(place, login=False) as client:
                await client.send(f"40{auth}")
                assert (await client.receive()).startswith('40{"sid"')
                status = await client.event("connection_status")
                assert (status["status"], status["login_timeout_s"]) == ("authentication_required", 10)
                assert (await client.ask("ping"))["ok"]
                refused = await client.ask("subscribe_execution", {"execution_id": "exec-1"})
                assert (refused["error"]["code"], refused["error"]["retryable"]) == (4010, False)
                code, before = await client.closed()
                assert code == 4010
                assert not [text for text in before if text.startswith('42["token')]
        assert place.gateway.connections == 0
        async with httpx2.AsyncClient(base_url=place.url) as http:
            for path in ("/executions/exec-1", "/executions/exec-1/stream"):
                answer = await http.get(path)
                assert (answer.status_code, answer.json()["error"]["code"]) == (401, 4010)
                assert answer.headers["www-authenticate"] == "Bearer"
    with site(auth={"secret": SECRET}, limits={"login_timeout": 0.2}) as place:
        async with raw_client(place, login=False) as client:
            await client.send("40")
            assert (await client.closed())[0] == 4080
    with site(auth={"enabled": False}) as place:  # only on purpose
        async with raw_client(place) as client:
            assert (await client.ask("ping"))["ok"]


@pytest.mark.row("HIVE-D19")
async def test_who_somebody_is_comes_from_the_token_alone() -> None:
    with site(auth={"secret": SECRET}) as place:
        place.hub.open("exec-1", owner="alice")
        claimed = {"token": token(sub="bob"), "sub": "alice", "userId": "alice", "metadata": {"user_id": "alice"}}
        headers = {"X-User": "alice", "X-Forwarded-User": "alice"}
        async with raw_client(place, auth=claimed, headers=headers) as client:
            assert (await client.ask("get_status"))["connection"]["subject"] == "bob"
            answer = await client.ask("subscribe_execution", {"execution_id": "exec-1"})
            assert answer["error"]["code"] == 4030
            answer = await client.ask("authenticate", {"token": token()})  # a token of another subject
            assert answer["error"]["code"] == 4010
            assert (await client.closed())[0] == 4010


@pytest.mark.row("HIVE-D18")
async def test_with_tokens_the_answer_is_no_unless_something_says_yes() -> None:
    allowed: set[tuple[str | None, str, str]] = set()

    def authorize(principal: object, action: str, execution_id: str, owner: str | None) -> bool:
        return (getattr(principal, "subject", None), action, execution_id) in allowed

    with site(auth={"secret": SECRET}, authorize=authorize) as place:
        place.hub.open("alices", owner="alice")
        place.hub.open("nobodys")
        async with raw_client(place, auth={"token": token(sub="bob")}) as client:
            for execution_id in ("alices", "nobodys", "unknown"):
                answer = await client.ask("subscribe_execution", {"execution_id": execution_id})
                assert answer["error"] == {
                    "code": 4030,
                    "name": "forbidden",
                    "message": "there is no such execution, or it is not yours",
                    "retryable": False,
                    "execution_id": execution_id,
                }
            allowed.add(("bob", "read", "nobodys"))
            assert (await client.ask("subscribe_execution", {"execution_id": "nobodys"}))["ok"]
            assert not (await client.ask("subscribe_execution", {"execution_id": "alices"}))["ok"]
            assert (await client.ask("get_status"))["subscriptions"][0]["execution_id"] == "nobodys"
        async with raw_client(place, auth={"token": token()}) as client:
            assert (await client.ask("subscribe_execution", {"execution_id": "alices"}))["ok"]


@pytest.mark.row("HIVE-06")
@pytest.mark.parametrize("algorithm", KEYS)
async def test_a_server_with_a_public_key(algorithm: str) -> None:
    with site(auth={"public_key": pem(KEYS[algorithm]), "audience": "watch", "cookie": "session"}) as place:
        place.hub.open("exec-1", owner="alice")
        good = token(KEYS[algorithm], algorithm, aud="watch")
        async with raw_client(place, auth={"token": good}) as client:
            assert (await client.ask("subscribe_execution", {"execution_id": "exec-1"}))["ok"]
        async with raw_client(place, headers={"Cookie": f"session={good}"}) as client:
            assert (await client.ask("get_status"))["connection"]["subject"] == "alice"
        async with httpx2.AsyncClient(base_url=place.url) as http:
            for presented, status in (
                (good, 200),
                (token(KEYS[algorithm], algorithm, aud="other"), 401),
                (token(), 401),
            ):
                answer = await http.get("/executions/exec-1", headers={"Authorization": f"Bearer {presented}"})
                assert answer.status_code == status


async def test_a_late_login_lets_a_client_in() -> None:
    with site(auth={"secret": SECRET}) as place:
        place.hub.open("his", owner="alice")
        async with raw_client(place, login=False) as client:
            await client.send("40")
            assert (await client.event("connection_status"))["status"] == "authentication_required"
            answer = await client.ask("authenticate", {"token": token()})
            assert answer["ok"]
            assert answer["expires_in_s"] > 0
            assert (await client.ask("subscribe_execution", {"execution_id": "his"}))["ok"]
            assert place.gateway.clients[0].subject == "alice"
        async with raw_client(place, login=False) as client:
            await client.send("40")
            assert (await client.ask("authenticate", {"token": "x.y.z"}))["error"]["code"] == 4010
            assert (await client.closed())[0] == 4010


async def test_an_address_may_not_hold_many_connections_that_never_log_in() -> None:
    with site(limits={"connections_per_address": 1}) as place:
        async with AsyncExitStack() as stack:
            for _ in range(21):
                await stack.enter_async_context(raw_client(place, login=False))
            with pytest.raises(InvalidStatus):
                await stack.enter_async_context(raw_client(place, login=False))
        async with raw_client(place) as client:
            assert (await client.ask("ping"))["ok"]
