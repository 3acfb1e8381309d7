"""Names of other systems are read, and never written."""

from pathlib import Path

import pytest

import lg_streaming
from lg_streaming.aliases import ALIASES
from lg_streaming.events import HUB_TYPES, StreamEventType, kind_of
from lg_streaming.filters import UpdateFilter
from lg_streaming.hub import StreamHub
from tests.hub.helpers import collect, types

TYPES = [*StreamEventType]


def passing(*names: str) -> set[str]:
    """The canonical types that a filter lets through, by either way to name them."""
    by_events, by_types = UpdateFilter.of(events=names), UpdateFilter.of(types=names)
    found = {str(each) for each in TYPES if by_types.accepts_type(each)}
    assert found == {str(each) for each in TYPES if by_events.accepts_type(each)}
    return found


NAMES: list[tuple[str, set[str]]] = [
    ("workflow:start", {"workflow_start"}),
    ("workflow:end", {"workflow_complete"}),
    ("workflow:error", {"workflow_error"}),
    ("node:end", {"node_complete"}),
    ("node:error", {"node_error"}),
    ("nodeEnd", {"node_complete"}),
    ("final", {"workflow_complete"}),
    ("toolCall", {"tool_start"}),
    ("tool:call", {"tool_start"}),
    ("llm:token", {"token"}),
    ("llm:request:started", {"llm_start"}),
    ("llm:tool:result", {"tool_complete", "tool_error"}),
    ("sourceDocuments", {"source_documents"}),
    ("node:*", {"node_start", "node_complete", "node_error"}),
    (
        "llm:*",
        {
            "llm_start",
            "llm_complete",
            "llm_error",
            "token",
            "tool_args",
            "tool_start",
            "tool_complete",
            "tool_error",
            "usage",
        },
    ),
    ("llm:request:*", {"llm_start", "llm_complete", "llm_error"}),
    ("llm:*:error", {"llm_error"}),
    ("task:*", set()),
    ("*:error", set()),
    ("n*", {"node_start", "node_complete", "node_error", "node_interrupted", "node_cached"}),
    ("a*", {"artifacts"}),
    ("Node:end", set()),
]


@pytest.mark.row("HIVE-83")
@pytest.mark.parametrize(("name", "meant"), NAMES)
def test_a_name_of_another_system_lets_ours_through(name: str, meant: set[str]) -> None:
    assert passing(name) == meant
    own = name.replace("*", "x")
    assert UpdateFilter.of(events=[name]).accepts_type(own), "a type of the user's own may have that name"


@pytest.mark.row("AOS-27")
def test_kinds_of_chunks_are_read() -> None:
    assert passing("text_delta") == {"token"}
    assert passing("system_progress") == {"progress"}
    assert passing("tool_call_request") == {"tool_start"}
    assert passing("tool_result_emission") == {"tool_complete", "tool_error"}
    assert passing("final_response") == {"llm_complete"}
    assert passing("metadata_update") == {"metadata"}
    assert passing("workflow_update") == {"workflow_progress"}


@pytest.mark.row("HIVE-83")
def test_every_name_stands_for_types_that_there_are() -> None:
    for alias, meant in ALIASES.items():
        assert set(meant) <= set(TYPES), alias
        assert meant, alias
        assert alias not in TYPES
        assert kind_of(alias) == "event", "a name cannot be a kind"
        assert passing(alias) == set(meant)


@pytest.mark.row("HIVE-83")
async def test_a_subscription_reads_them() -> None:
    hub = StreamHub()
    emitter = hub.emitter("e")
    for type in ("node_start", "token", "node_complete", "usage"):  # noqa: A001
        assert type not in HUB_TYPES
        emitter.event(type, {})
    await hub.close("e")
    assert types(await collect(hub.subscribe("e", types=["nodeEnd", "workflow:end"]))) == [
        "node_complete",
        "workflow_complete",
    ]
    assert types(await collect(hub.subscribe("e", events=["llm:*", "final"]))) == [
        "token",
        "usage",
        "workflow_complete",
    ]
    await hub.aclose()


def test_no_other_system_s_name_is_written() -> None:
    sources = Path(lg_streaming.__file__).parent.rglob("*.py")
    written = {
        alias
        for source in sources
        if source.name != "aliases.py"
        for alias in ALIASES
        if ":" in alias and f'"{alias}"' in source.read_text(encoding="utf-8")
    }
    assert written == set()
