"""`POST /tickets`: a ticket opens one stream, where a browser can send no header."""

import json

import httpx2
import pytest

from tests.gateway.site import SECRET, site
from tests.gateway.test_rest import bearer, code_of


async def test_a_ticket_opens_one_stream() -> None:
    with site(auth={"secret": SECRET}) as place:
        place.hub.open("exec-1", owner="alice")
        await place.hub.close("exec-1")
        async with httpx2.AsyncClient(timeout=10) as http:
            url = f"{place.url}/tickets"
            answer = await http.post(url, json={}, headers=bearer())
            assert answer.status_code == 201
            ticket = answer.json()["ticket"]
            assert 0 < answer.json()["expires_in_s"] <= 30
            assert answer.headers["cache-control"] == "no-store"
            stream = f"{place.url}/executions/exec-1/stream?ticket={ticket}"
            assert "workflow_complete" in (await http.get(stream)).text
            assert await code_of(http.get(stream)) == (401, 4010)
            assert await code_of(http.post(url, json={})) == (401, 4010)


@pytest.mark.parametrize("body", ["[]", "7", '{"execution_id": "a b"}', '{"executionid": "a"}', '{"execution_id": 7}'])
async def test_the_body_is_checked(body: str) -> None:
    with site() as place:
        async with httpx2.AsyncClient(timeout=10) as http:
            request = http.post(f"{place.url}/tickets", content=body, headers={"Content-Type": "application/json"})
            assert await code_of(request) == (400, 4000)


async def test_a_ticket_may_be_for_one_execution() -> None:
    with site(auth={"secret": SECRET}) as place:
        for execution_id in ("exec-1", "exec-2"):
            place.hub.open(execution_id, owner="alice")
            await place.hub.close(execution_id)
        async with httpx2.AsyncClient(timeout=10) as http:
            wanted = json.dumps({"executionId": "exec-1"})
            headers = {**bearer(), "Content-Type": "application/json"}
            tickets = [
                (await http.post(f"{place.url}/tickets", content=wanted, headers=headers)).json()["ticket"]
                for _ in range(2)
            ]
            other = http.get(f"{place.url}/executions/exec-2/stream?ticket={tickets[0]}")
            assert await code_of(other) == (403, 4030)
            assert (await http.get(f"{place.url}/executions/exec-1/stream?ticket={tickets[1]}")).status_code == 200
