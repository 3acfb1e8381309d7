"""The page about the wire has every message, field, option and code there is."""

import re
from pathlib import Path

import httpx2
import pytest

from lg_streaming.errors import CODES
from lg_streaming.gateway.protocol.inbound import SubscribeExecution
from lg_streaming.gateway.protocol.registry import MESSAGES_IN, MESSAGES_OUT
from tests.gateway.site import Site

# Errors for producers, which are never on the wire.
ELSEWHERE = {"update_too_large"}


@pytest.fixture(scope="module")
def page() -> str:
    return (Path(__file__).resolve().parents[2] / "docs" / "wire.md").read_text()


def test_every_message_and_option_is_there(page: str) -> None:
    for name in (*MESSAGES_IN, *MESSAGES_OUT, *SubscribeExecution.model_fields):
        assert f"`{name}`" in page, name


def test_every_field_of_the_servers_messages_is_there(page: str) -> None:
    for name, model in MESSAGES_OUT.items():
        for key, field in model.model_fields.items():
            assert re.search(rf'[`"]{field.alias or key}[`":]', page), f"{name}.{key}"


async def test_a_stream_takes_the_options_of_its_table_and_no_others(page: str, open_site: Site) -> None:
    table = page.partition("## Server-Sent Events\n")[2].partition("| event |")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    told = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} - {"ticket"}
    values = {"since": "2026-11-20T20:00:00Z", "until": "2026-11-20T20:00:00Z", "after": "latest", "on_gap": "tail"}
    values |= {"dialect": "flowise", "event": "kind"}
    flags = {"follow", "merge", "batch", "named"}
    assert flags | values.keys() <= told
    async with httpx2.AsyncClient(base_url=open_site.url) as http:
        for name in told | {"unheard_of"}:
            value = values.get(name, "true" if name in flags else "low")
            answer = await http.head("/executions/e/stream", params={name: value})
            assert answer.status_code == (400 if name == "unheard_of" else 200), name


def test_the_table_of_codes_is_that_of_the_program(page: str) -> None:
    rows = {
        int(code): (name, retry.startswith(("yes", "with")), closes)
        for code, name, retry, closes in re.findall(
            r"^\| (\d{4}) \| `(\w+)` \| \d* ?\| ([\w ]+) \| ([\w ]+) \|", page, re.MULTILINE
        )
    }
    words = {"yes": "yes", "no": "no", "third": "the third time"}
    known = {
        number: (code.name, code.retryable, words[code.closes])
        for number, code in CODES.items()
        if code.name not in ELSEWHERE
    }
    assert {number: row for number, row in rows.items() if number != 5000} == known
