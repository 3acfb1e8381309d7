"""Capture changes nothing: a caller gets the same from a graph with and without decorators, by every way to call it."""

import pytest

from tests.capture.same.calls import WAYS
from tests.capture.same.models import MODELS
from tests.capture.same.observing import PLAIN, observe
from tests.capture.same.selection import CELLS, DECORATED, Cell
from tests.capture.same.shapes import SHAPES
from tests.capture.same.views import first_difference

pytestmark = pytest.mark.filterwarnings("ignore:The v3 streaming protocol")


async def differences(cell: Cell) -> list[str]:
    """Differences between the results of a decorated graph and the plain one."""
    place = cell.shape, cell.model, cell.way
    plain = await observe(*place, PLAIN)
    found = list[str]()
    for decoration in cell.decorations:
        if difference := first_difference(plain, await observe(*place, decoration)):
            found.append(f"{' | '.join((decoration, *place))}: {difference}")
    return found


@pytest.mark.parametrize("shape", SHAPES)
async def test_the_same_with_and_without(shape: str) -> None:
    found = [each for cell in CELLS if cell.shape == shape for each in await differences(cell)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("shape", SHAPES)
async def test_plain_graphs_are_the_same_twice(shape: str) -> None:
    """Two plain runs are equal in all that is compared."""
    for way in ("ainvoke", "stream debug v1", "astream_events v2"):
        place = shape, "streaming", way, PLAIN
        assert first_difference(await observe(*place), await observe(*place)) is None


def test_the_selection_covers_every_pair() -> None:
    seen = {pair for cell in CELLS for pair in cell.pairs()}
    names = {"shape": SHAPES, "model": MODELS, "way": WAYS, "decoration": DECORATED}
    for one, other in (("shape", "model"), ("shape", "decoration"), ("model", "decoration"), ("way", "decoration")):
        missing = {(f"{one}={a}", f"{other}={b}") for a in names[one] for b in names[other]} - seen
        assert missing <= {("shape=Send branches", f"model={each}") for each in ("fails", "fails once")}


@pytest.mark.soak
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("shape", SHAPES)
async def test_every_way_with_every_decorator(shape: str, model: str) -> None:
    cells = [Cell(shape, model, way, tuple(DECORATED)) for way in WAYS]
    found = [each for cell in cells if cell.is_determined for each in await differences(cell)]
    assert not found, "\n".join(found)
