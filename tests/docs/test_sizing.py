"""The sizing script prints what the page on scaling shows, and its simulations agree with the theory."""

import importlib.util
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.docs.fences import blocks_of

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools/size_fleet.py"
PAGE = ROOT / "docs/guide/scaling.md"
RUNS = [block for block in blocks_of(PAGE) if block.code.startswith("$ python tools/size_fleet.py")]


@pytest.fixture(scope="module")
def sizing() -> Any:
    spec = importlib.util.spec_from_file_location("size_fleet", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["size_fleet"] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_shows_the_output(sizing: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(RUNS) > 1
    for block in RUNS:
        command, _, shown = block.code.partition("\n")
        assert sizing.main(command.split()[3:]) == 0
        assert capsys.readouterr().out.strip() == shown.strip(), block.line


def test_single_appends_at_random_times_wait_as_in_the_theory_of_such_queues(
    sizing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue is M/D/1, with Crommelin's distribution: of this many processes hardly two append at once."""
    monkeypatch.setattr(sizing, "_APPENDS", 20_000)
    load = sizing.Load(processes=20_000, batch=0.1, duration=1e9)
    demand = sizing.Demand(load, sizing.Costs())
    for busy in (0.5, 0.7):
        _, p99 = sizing.delays(demand, busy, seed=1)
        expected = demand.append_time * (1 + md1_quantile(busy, 0.99))
        assert p99 == pytest.approx(expected, rel=0.2)


def md1_quantile(busy: float, share: float) -> float:
    """Wait in service times that this share of the requests does not exceed."""
    waited = 0.0
    while md1(busy, waited) < share:
        waited += 0.01
    return waited


def md1(busy: float, waited: float) -> float:
    terms = (
        (busy * (k - waited)) ** k / math.factorial(k) * math.exp(-busy * (k - waited)) for k in range(int(waited) + 1)
    )
    return (1 - busy) * sum(terms)


def test_more_load_needs_more_of_everything(sizing: Any) -> None:
    small, costs = sizing.Load(), sizing.Costs()
    large = replace(small, executions=10 * small.executions)
    one, ten = sizing.Demand(small, costs), sizing.Demand(large, costs)
    for name in ("appends", "reads", "deliveries", "memory"):
        assert getattr(ten, name) == pytest.approx(10 * getattr(one, name))
    assert ten.gateways > one.gateways
    shards, _ = sizing.shards_for(ten, costs, 1)
    assert shards >= 3
    assert sizing.shards_for(sizing.Demand(replace(small, executions=100), costs), costs, 1) == (1, 1.0)
    calm, busy = (sizing.delays(one, share, 1)[1] for share in (0.3, 0.9))
    assert busy > 2 * calm


def test_few_executions_spread_less_evenly(sizing: Any) -> None:
    few, many = (sizing.imbalance(count, 6, 1) for count in (100, 10_000))
    assert few > many > 1


def test_longer_batches_need_fewer_appends(sizing: Any) -> None:
    quick, slow = (sizing.Demand(sizing.Load(rate=100.0, batch=batch), sizing.Costs()) for batch in (0.002, 0.02))
    assert slow.appends < quick.appends
    assert slow.cpu < quick.cpu
    assert slow.appends * slow.updates_per_append == pytest.approx(quick.appends * quick.updates_per_append)


def test_the_help_has_every_option() -> None:
    done = subprocess.run([sys.executable, TOOL, "--help"], capture_output=True, text=True, check=True)
    assert len(set(re.findall(r"--[a-z-]+", done.stdout))) >= 22
