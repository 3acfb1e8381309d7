"""The way of a token from the model's callback to the socket: short, and through each part once."""

import itertools

from tests.bench.path import record

MOST = 33
"""Functions on the way."""
MOST_BEFORE_THE_HUB = 9
"""Functions of capture, pipeline and emitter among them."""


async def test_a_token_passes_each_part_once_by_few_functions() -> None:
    steps = await record()
    parts = [step.place.partition("/")[0] for step in steps if step.counts]
    assert len(parts) <= MOST, "\n".join(map(str, steps))
    folders = [part for part in parts if ".py:" not in part]  # a module at the top is below them all
    assert [part for part, _ in itertools.groupby(folders)][:4] == ["capture", "pipeline", "emitter", "hub"]
    behind = parts[parts.index("hub") :]
    assert not {"capture", "pipeline", "emitter"} & set(behind)
    assert len(parts) - len(behind) <= MOST_BEFORE_THE_HUB
