"""Agents called directly, in every way, captured in every way: text, nodes and order of their updates."""

import pytest

from tests.agents.calling import CAPTURES, SYNC, WAYS, rotated
from tests.agents.reading import read
from tests.agents.teams import ASK, TEAMS

CASES = [
    (team, capture, way)
    for team, capture, way in rotated(TEAMS, CAPTURES, WAYS, each=2)
    if not (way in SYNC and team == "async supervisor")
]


@pytest.mark.parametrize(("team", "capture", "way"), CASES)
async def test_calls(team: str, capture: str, way: str) -> None:
    it, how = TEAMS[team](), CAPTURES[capture]
    graph = how.graph(it.graph)
    async with how.module() as streaming:
        with how.around(streaming, "e"):
            state = await WAYS[way](graph, ASK, how.config(streaming, "e"))
        assert await streaming.hub.log.executions() == ("e",)
        seen = await read(streaming, "e")
    assert seen.outcome == "workflow_complete"
    assert set(seen.paths) >= it.nodes
    seen.says(state["messages"], it.inside)
    seen.arose_in(it.calls)
    assert {update.data["tool"] for update in seen.of("tool_complete")} == it.tools
    assert {update.agent_type for update in seen.of("token")} - {None} == it.agents
