"""Cost of detecting that a value is too large, which blocks the event loop."""

import time
from array import array
from typing import Any

import pytest

from lg_streaming.errors import UpdateTooLargeError
from lg_streaming.excerpt import excerpt
from lg_streaming.hub import StreamHub
from lg_streaming.settings import StreamingSettings
from lg_streaming.values import to_json

LIMIT = 65_536
LARGE: dict[str, Any] = {
    "many small fields": {str(each): each for each in range(300_000)},
    "many long names": {f"k{each}" * 100: 1 for each in range(20_000)},
    "many small items": list(range(300_000)),
    "many lists": [[each, each] for each in range(100_000)],
    "many texts to escape": ['"\u2028'] * 100_000,
    "a very long name": {"k" * 5_000_000: 1},
}


@pytest.mark.parametrize("name", LARGE)
def test_a_value_of_many_small_parts_is_refused_in_less_time_than_others_may_wait(name: str) -> None:
    hub = StreamHub(StreamingSettings.model_validate({"limits": {"update_bytes": LIMIT}}))
    hub.open("e")
    spent: list[float] = []
    for _ in range(3):  # the machine may have something else to do
        began = time.process_time()
        with pytest.raises(UpdateTooLargeError):
            hub.publish("e", "note", LARGE[name])
        spent.append(time.process_time() - began)
    assert min(spent) < 0.1


@pytest.mark.parametrize("name", LARGE)
def test_the_size_of_many_parts_is_counted_or_estimated(name: str) -> None:
    value = LARGE[name]
    whole = len(to_json(value))
    sizes = excerpt(value, LIMIT, "value")[1]
    assert sizes is not None
    assert 0.6 * whole < sum(sizes.values()) < 1.5 * whole


@pytest.mark.parametrize(
    "view",
    [
        memoryview(b"ab" * 1_000_000)[::2],
        memoryview(bytes(2_000_000))[::-1],
        memoryview(array("i", range(400_000)))[::3],
    ],
)
def test_a_view_with_steps_is_cut_as_any_other(view: memoryview) -> None:
    hub = StreamHub(StreamingSettings.model_validate({"limits": {"update_bytes": LIMIT}}))
    hub.open("e")
    for data in (view, [view], {"field": view}):
        with pytest.raises(UpdateTooLargeError):
            hub.publish("e", "note", data)
        assert excerpt(data, LIMIT, "value")[1] is not None
    hub.publish("e", "note", view[:10])
