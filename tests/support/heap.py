"""The heap of a test process: what is there already is not looked through again."""

import gc
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["young_heap"]


@contextmanager
def young_heap() -> Generator[None]:
    """Keep what is there out of every collection and of `gc.get_objects()`.

    A test process imports half a million objects, and a collection of them all takes a third of a
    second. What comes later is collected and counted as ever, also where an older object holds it.
    """
    gc.collect()
    held = gc.get_freeze_count()
    gc.freeze()
    yield
    if not held:  # else another caller has frozen the heap for longer
        gc.unfreeze()
