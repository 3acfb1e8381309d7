"""Error of the time left, compared with elapsed · rest / done, over recordings of work of several shapes and sizes."""

import json
from typing import Any

from tests.bench.eta_shapes import SHAPES, compare

SEEDS = range(1_000, 1_040)
SIZES = (12, 50, 200, 800)
TARGET = 1.0


def measure() -> dict[str, Any]:
    errors = {shape.__name__: compare(shape, SEEDS, SIZES) for shape in SHAPES}
    ratio = sum(ours for ours, _ in errors.values()) / sum(plain for _, plain in errors.values())
    return {
        "name": "eta",
        "ratio": round(ratio, 3),
        "target": f"< {TARGET}",
        "ok": ratio < TARGET,
        "shapes": {name: round(ours / plain, 3) if plain > 1e-9 else 1.0 for name, (ours, plain) in errors.items()},
        "recordings": len(SHAPES) * len(SEEDS) * len(SIZES),
    }


def main() -> None:
    print(json.dumps(measure()))
