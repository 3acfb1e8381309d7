"""Each option of @stream_progress, one by one, through real graphs in virtual time."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from lg_streaming import StreamingModule, StreamingSettings, stream_progress
from lg_streaming.errors import StreamingConfigError
from tests.pipeline.progress_kit import percentages, reports, run_node


def count_to(total: int, *, seconds: float = 0.1) -> Any:
    """A node that counts, one in ``seconds``."""

    def body(progress: Any, wait: Any) -> None:
        for done in range(1, total + 1):
            wait(seconds)
            progress.update(done, total)

    return body


@pytest.mark.row("HIVE-37")
async def test_at_most_one_report_an_interval_but_start_and_end_always(streaming: StreamingModule) -> None:
    run = await run_node(streaming, count_to(50, seconds=0.11))
    assert percentages(run) == [0, 18, 36, 54, 72, 90, 100, 100]
    assert [data["status"] for data in reports(run)] == ["started", *["running"] * 6, "completed"]


@pytest.mark.row("HIVE-37", "CFLOW-D9")
async def test_the_last_report_of_an_interval_leaves_by_time(streaming: StreamingModule) -> None:
    def body(progress: Any, wait: Any) -> None:
        progress.update(1, 10)
        wait(0.4)
        progress.update(2, 10)
        wait(0.4)
        progress.update(3, 10)
        wait(10.0)
        progress.update(4, 10)
        progress.update(5, 10)

    run = await run_node(streaming, body, interval=1.0, include_metrics=True)
    assert [(data["progress"], data["elapsed_s"]) for data in reports(run)] == [
        (0.0, 0.0),
        (30.0, 1.0),  # held since 0.8 s, and published at the end of the interval
        (40.0, 10.8),
        (50.0, 10.8),  # what is held leaves before the node's end
        (100.0, 10.8),
    ]


@pytest.mark.row("HIVE-37")
async def test_interval_0_lets_everything_leave(streaming: StreamingModule) -> None:
    assert percentages(await run_node(streaming, count_to(4, seconds=0.0), interval=0)) == [0, 25, 50, 75, 100, 100]


@pytest.mark.row("HIVE-38", "HIVE-D7")
@pytest.mark.parametrize(
    ("granularity", "expected"),
    [
        ("coarse", [0, 60, 100, 100]),
        ("fine", [0, 30, 60, 90, 100, 100]),
        ("detailed", [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 100]),
    ],
)
async def test_granularity(streaming: StreamingModule, granularity: Any, expected: list[float]) -> None:
    run = await run_node(streaming, count_to(10), interval=0.35, granularity=granularity, milestones=[60])
    assert percentages(run) == expected
    assert run.one("milestone").data == {"milestone": 60, "progress": 60.0}


@pytest.mark.row("HIVE-39")
async def test_eta_is_unknown_at_first_and_0_at_the_end(streaming: StreamingModule) -> None:
    told = reports(await run_node(streaming, count_to(4, seconds=2.0)))
    assert [data.get("eta_s") for data in told] == [None, 6.0, 4.0, 2.0, 0.0, 0.0]
    without = reports(await run_node(streaming, count_to(4, seconds=2.0), include_eta=False, execution_id="without"))
    assert not any("eta_s" in data for data in without)


@pytest.mark.row("HIVE-40")
async def test_metrics_are_told_when_asked_for(streaming: StreamingModule) -> None:
    told = reports(await run_node(streaming, count_to(4, seconds=2.0), include_metrics=True))
    assert [(data["elapsed_s"], data["rate"]) for data in told] == [
        (0, 0),
        (2, 0.5),
        (4, 0.5),
        (6, 0.5),
        (8, 0.5),
        (8, 0.5),
    ]
    without = reports(await run_node(streaming, count_to(4, seconds=2.0), execution_id="without"))
    assert not any("rate" in data for data in without)
    assert ["elapsed_s" in data for data in without] == [False] * 5 + [True]  # the duration is always there


@pytest.mark.row("HIVE-41", "HIVE-D7")
async def test_one_update_crosses_several_milestones(streaming: StreamingModule) -> None:
    def body(progress: Any, wait: Any) -> None:
        progress.update(80, 100)
        progress.update(80, 100)
        progress.update(95, 100)

    run = await run_node(streaming, body, milestones=[95, 25, 50, 75, 90.5, 25], interval=60)
    told = [update.data for update in run.of("milestone")]
    assert told == [{"milestone": mark, "progress": 80.0} for mark in (25, 50, 75)] + [
        {"milestone": mark, "progress": 95.0} for mark in (90.5, 95)
    ]
    # before the progress update that crossed them, and that one does not wait
    assert [(update.type, update.data["progress"]) for update in run.of("milestone", "progress")] == [
        ("progress", 0.0),
        *[("milestone", 80.0)] * 3,
        ("progress", 80.0),
        *[("milestone", 95.0)] * 2,
        ("progress", 95.0),
        ("progress", 100.0),
    ]


@pytest.mark.row("HIVE-41")
async def test_a_node_that_only_returns_has_passed_all_milestones(streaming: StreamingModule) -> None:
    run = await run_node(streaming, lambda progress, wait: None, milestones=[50, 100])
    assert [(update.type, update.data["progress"]) for update in run.of("milestone", "progress")] == [
        ("progress", 0.0),
        ("milestone", 100.0),
        ("milestone", 100.0),
        ("progress", 100.0),
    ]


@pytest.mark.row("HIVE-42", "HIVE-D7")
async def test_a_calculator_is_used_instead_and_clamped(streaming: StreamingModule) -> None:
    def calculator(current: float, total: float, metadata: Mapping[str, Any]) -> float:
        return current * metadata.get("worth", 1)

    def body(progress: Any, wait: Any) -> None:
        progress.update(-5, 1000)
        progress.update(30, 1000)
        progress.update(30, 1000, {"worth": 2})
        progress.update(70, 1000, {"worth": 2})

    run = await run_node(streaming, body, calculator=calculator, granularity="detailed")
    assert percentages(run) == [0.0, 0.0, 30.0, 60.0, 100.0, 100.0]
    assert run.of("error") == []


def raising(current: float, total: float, metadata: Mapping[str, Any]) -> float:
    raise LookupError("no table")


async def awaiting() -> float:
    return 1.0


def returning(value: Any) -> Callable[..., Any]:
    def calculator(current: float, total: float, metadata: Mapping[str, Any]) -> Any:
        return value() if callable(value) else value

    return calculator


BROKEN: list[tuple[Any, str]] = [
    (raising, "no table"),
    (returning("half"), "'half'"),
    (returning(value=True), "True"),
    (returning(None), "NoneType"),
    (returning(float("nan")), "nan"),
    (returning(awaiting), "coroutine"),
    (lambda: 1.0, "positional argument"),
]


@pytest.mark.row("HIVE-42")
@pytest.mark.parametrize(("calculator", "message"), BROKEN)
async def test_a_calculator_that_fails_is_told_once_and_passed_over(
    streaming: StreamingModule, caplog: pytest.LogCaptureFixture, calculator: Any, message: str
) -> None:
    with caplog.at_level(logging.WARNING):
        run = await run_node(streaming, count_to(4), calculator=calculator, granularity="detailed")
    assert percentages(run) == [0, 25, 50, 75, 100, 100]
    error = run.one("error").data
    assert message in error["message"]
    assert (error["code"], error["option"], error["node_id"]) == ("calculator_failed", "calculator", "node")
    assert len([record for record in caplog.records if "calculator" in record.getMessage()]) == 1


@pytest.mark.row("HIVE-43")
@pytest.mark.parametrize(
    ("format", "expected"),
    [
        ({}, {"progress": 33.3}),
        ({"show_percentage": False}, {}),
        ({"show_current": True}, {"progress": 33.3, "current": 1}),
        ({"show_total": True}, {"progress": 33.3, "total": 3}),
        ({"show_rate": True}, {"progress": 33.3, "rate": 0.5}),
        ({"precision": 0}, {"progress": 33}),
        ({"precision": 3}, {"progress": 33.333}),
    ],
)
async def test_format(streaming: StreamingModule, format: Any, expected: dict[str, Any]) -> None:
    def body(progress: Any, wait: Any) -> None:
        wait(2.0)
        progress.update(1, 3)

    told = reports(await run_node(streaming, body, format=format, include_eta=False))[1]
    assert told == {**expected, "status": "running"}


@pytest.mark.row("HIVE-43")
@pytest.mark.parametrize("precision", [0, 1, 6])
async def test_100_is_shown_only_when_it_is_reached(streaming: StreamingModule, precision: int) -> None:
    def body(progress: Any, wait: Any) -> None:
        progress.update(99_999_999_999, 100_000_000_000)

    run = await run_node(streaming, body, interval=0, format={"precision": precision})
    assert 98 < percentages(run)[1] < 100
    assert percentages(run)[2] == 100


@pytest.mark.row("HIVE-D7")
@pytest.mark.parametrize(
    "option",
    [
        {"interval": -1},
        {"interval": float("inf")},
        {"interval": 3601},
        {"interval": "often"},
        {"granularity": "rough"},
        {"milestones": [0]},
        {"milestones": [101]},
        {"milestones": 50},
        {"milestones": [*range(1, 101), 0.5]},
        {"calculator": 3},
        {"calculator": awaiting},
        {"format": {"show_percent": True}},
        {"format": {"precision": 7}},
        {"format": {"precision": -1}},
        {"format": "%d"},
        {"include_eta": "perhaps"},
    ],
)
def test_a_value_that_cannot_be_used_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(StreamingConfigError, match=rf"stream_progress\({next(iter(option))}=…\)"):
        stream_progress(**option)


async def test_the_settings_hold_where_the_decorator_says_nothing() -> None:
    settings = StreamingSettings.model_validate(
        {
            "progress_defaults": {
                "granularity": "coarse",
                "milestones": [50],
                "format": {"precision": 0, "show_total": True},
            }
        }
    )
    async with StreamingModule(settings) as streaming:
        run = await run_node(streaming, count_to(3), format={"precision": 2})
        assert percentages(run) == [0, 66.67, 100, 100]
        assert [data.get("total") for data in reports(run)] == [None, 3, 3, 3]
        run = await run_node(streaming, count_to(3), granularity="detailed", milestones=[], execution_id="own")
        assert percentages(run) == [0, 33, 67, 100, 100]
        assert run.of("milestone") == []


def test_the_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LG_STREAMING_PROGRESS_DEFAULTS__INTERVAL", "0.25")
    monkeypatch.setenv("LG_STREAMING_PROGRESS_DEFAULTS__MILESTONES", "[50, 25]")
    monkeypatch.setenv("LG_STREAMING_PROGRESS_DEFAULTS__FORMAT__PRECISION", "3")
    defaults = StreamingSettings().progress_defaults
    assert (defaults.interval, defaults.milestones, defaults.format.precision) == (0.25, (25, 50), 3)


@pytest.mark.row("HIVE-80")
async def test_options_change_while_the_node_runs(streaming: StreamingModule) -> None:
    def body(progress: Any, wait: Any) -> None:
        for done in range(1, 4):
            wait(0.2)
            progress.update(done, 100)
        streaming.hub.configure("e", progress={"interval": 0.1, "format": {"show_current": True}})
        for done in range(4, 7):
            wait(0.2)
            progress.update(done, 100)
        streaming.hub.configure("e", progress={"enabled": False})
        progress.update(50, 100)
        streaming.hub.configure("e", progress={"enabled": True, "format": {"precision": 0}, "milestones": [20, 60]})
        wait(0.2)
        progress.update(70, 100)

    run = await run_node(streaming, body, include_eta=False)
    assert [(data["progress"], data.get("current")) for data in reports(run)] == [
        (0.0, None),
        (4.0, 4),
        (5.0, 5),
        (6.0, 6),
        (70, 70),
        (100, 70),
    ]
    assert [update.data["milestone"] for update in run.of("milestone")] == [60]


async def test_what_the_decorator_says_stays_when_the_execution_is_configured(streaming: StreamingModule) -> None:
    streaming.hub.configure("e", progress={"granularity": "coarse", "format": {"precision": 0}})
    run = await run_node(streaming, count_to(3), granularity="detailed")
    assert percentages(run) == [0, 33, 67, 100, 100]


async def test_progress_switched_off_by_the_settings() -> None:
    settings = StreamingSettings.model_validate({"progress_defaults": {"enabled": False}})
    async with StreamingModule(settings) as streaming:
        assert reports(await run_node(streaming, count_to(3))) == []
        assert percentages(await run_node(streaming, count_to(3), enabled=True, interval=0, execution_id="on"))[0] == 0
