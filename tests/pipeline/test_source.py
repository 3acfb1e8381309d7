"""`Source`: the beginning of a chain of operators."""

import pytest
from reactivex import operators as ops

from lg_streaming.pipeline.timed_buffer import Source


def test_it_gives_items_to_its_subscriber_until_that_leaves() -> None:
    got: list[int] = []
    source: Source[int] = Source()
    source.on_next(0)
    subscription = source.pipe(ops.map(lambda item: item * 10)).subscribe(got.append)
    source.on_next(1)
    source.on_next(2)
    subscription.dispose()
    source.on_next(3)
    assert got == [10, 20]


def test_it_completes_once() -> None:
    got: list[str] = []
    source: Source[str] = Source()
    source.on_completed()
    source.subscribe(got.append, on_completed=lambda: got.append("end"))
    source.on_next("item")
    source.on_completed()
    source.on_completed()
    source.on_next("late")
    assert got == ["item", "end"]


def test_what_a_subscriber_raises_reaches_whoever_gives_the_item() -> None:
    def refuse(_: int) -> None:
        raise ZeroDivisionError

    source: Source[int] = Source()
    source.subscribe(refuse)
    with pytest.raises(ZeroDivisionError):
        source.on_next(0)
