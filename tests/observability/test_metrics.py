"""Metrics for Prometheus."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from lg_streaming.errors import MissingExtraError
from lg_streaming.gateway import Gateway
from lg_streaming.hub import StreamHub
from lg_streaming.observability.events import (
    ClientConnected,
    ClientDisconnected,
    ClientRefused,
    GapReported,
    MessageReceived,
    RoomJoined,
    SubscriptionResumed,
    UpdatesMerged,
)
from lg_streaming.observability.gateway_metrics import GatewayMetrics
from lg_streaming.observability.metrics import MetricsCollector, metrics_text
from lg_streaming.settings import StreamingSettings
from tests.gateway.site import SECRET, Site, site
from tests.hub.faulty import FaultyLog

WHO: dict[str, Any] = {"connection_id": "c", "transport": "sse"}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
"""Values by name and labels."""


def samples_of(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"lg_streaming_{name}", frozenset(labels.items())]


async def scrape(hub: StreamHub, figures: GatewayMetrics | None = None) -> Samples:
    content_type, body = await metrics_text(hub, figures)
    assert content_type.startswith("text/plain; version=")
    return samples_of(body.decode())


@pytest.fixture
async def hub() -> Any:
    hub = StreamHub()
    yield hub
    await hub.aclose()


async def test_the_hub_s_counts(hub: StreamHub) -> None:
    for index in range(31):
        hub.publish("e", "token", {"content": "x", "index": index})
    hub.publish("e", "mine", {})
    hub.open("f")
    await hub.close("f")
    hub.publish("f", "token", {}, scope=hub.emitter("e").scope)
    async with hub.subscribe("e", follow=True) as reader:
        await reader.next_page(10)
        samples = await scrape(hub)
    assert value(samples, "executions") == 2
    assert value(samples, "executions_running") == 1
    assert value(samples, "readers") == 1
    assert value(samples, "reader_lag_updates") == value(samples, "reader_lag_updates_max") == 23
    assert value(samples, "updates_delivered_total") == 10
    published = {kind: value(samples, "updates_published_total", kind=kind) for kind in ("token", "event", "status")}
    assert published == {"token": 31, "event": 1, "status": 3}
    assert value(samples, "updates_dropped_total", reason="late") == 1
    assert value(samples, "publish_seconds_count") == value(samples, "publish_seconds_bucket", le="+Inf") == 2
    assert value(samples, "publish_seconds_sum") > 0


async def test_the_gateway_s_counts(hub: StreamHub) -> None:
    figures = GatewayMetrics(["ping"], wall=lambda: 100.0)
    figures.record(ClientConnected(**WHO))
    figures.record(ClientConnected(**WHO))
    figures.record(ClientDisconnected(**WHO, code=4400))
    figures.record_page("sse", 7, 1_234, 99.98)
    figures.record(MessageReceived(**WHO, message_name="ping"))
    figures.record(MessageReceived(**WHO, message_name="pong\n{}", duration_s=0.003, code=4000))
    figures.record(ClientRefused(**WHO, code=4293, reason="why"))
    figures.record(SubscriptionResumed(**WHO, execution_id="e", recovered=False))
    figures.record(GapReported(**WHO, execution_id="e", reason="evicted"))
    figures.record(UpdatesMerged(**WHO, updates=5))
    figures.record(ClientRefused(**WHO, code=4010, reason="unauthorized"))
    figures.record(RoomJoined(**WHO, room_id="r"))
    samples = await scrape(hub, figures)
    assert value(samples, "connections", transport="sse") == 1
    assert value(samples, "connections", transport="websocket") == 0
    assert value(samples, "connections_opened_total", transport="sse") == 2
    assert value(samples, "connections_closed_total", transport="sse", code="4400") == 1
    assert value(samples, "connections_closed_total", transport="sse", code="none") == 0
    assert value(samples, "updates_sent_total", transport="sse") == 7
    assert value(samples, "sent_bytes_total", transport="sse") == 1_234
    assert value(samples, "messages_received_total", message="ping") == 1
    assert value(samples, "messages_received_total", message="other") == 1
    assert value(samples, "messages_failed_total") == 1
    assert value(samples, "message_seconds_sum") == pytest.approx(0.003)
    assert value(samples, "refused_total", code="4293") == 1
    assert value(samples, "resumes_total", recovered="false") == 1
    assert value(samples, "gaps_total", reason="evicted") == 1
    assert value(samples, "updates_merged_total") == 5
    assert value(samples, "login_failures_total") == 1
    assert value(samples, "subscriptions") == value(samples, "rooms_joined") == 1
    assert value(samples, "delivery_seconds_bucket", le="0.01") == 0
    assert value(samples, "delivery_seconds_bucket", le="0.025") == 1
    assert value(samples, "delivery_seconds_count") == 1


def everything_that_can_be_named(text: str) -> Iterator[tuple[str, frozenset[str]]]:
    for name, labels in samples_of(text):
        yield name, frozenset(f"{label}={each}" for label, each in labels if label != "le")


async def test_what_clients_and_runs_say_never_becomes_a_label(hub: StreamHub) -> None:
    figures = GatewayMetrics(["ping"])
    _, before = await metrics_text(hub, figures)
    for index in range(50):
        hub.publish(f"execution-{index}", f"type-{index}", {})
        figures.record(MessageReceived(**WHO, message_name=f"name-{index}"))
        figures.record(ClientRefused(**WHO, code=5_000 + index, reason="why"))
        figures.record(ClientConnected(connection_id="", transport="rest"))
        figures.record(ClientDisconnected(connection_id="", transport="rest", code=3_000 + index))
    _, after = await metrics_text(hub, figures)
    assert set(everything_that_can_be_named(after.decode())) == set(everything_that_can_be_named(before.decode()))
    assert b"execution-" not in after


async def test_names_follow_the_conventions(hub: StreamHub) -> None:
    _, body = await metrics_text(hub, GatewayMetrics())
    families = list(text_string_to_metric_families(body.decode()))
    assert len(families) > 30
    for family in families:
        assert re.fullmatch(r"lg_streaming_[a-z_]+", family.name)
        assert family.documentation
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples)
        elif family.type == "histogram":
            assert family.name.endswith("_seconds")
        else:
            assert family.type == "gauge"


async def test_a_scraper_may_ask_for_openmetrics(hub: StreamHub) -> None:
    content_type, body = await metrics_text(hub, GatewayMetrics(), "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert "lg_streaming_executions" in {
        family.name for family in openmetrics.text_string_to_metric_families(body.decode())
    }


async def test_the_collector_fits_a_registry_of_the_program_s_own(hub: StreamHub) -> None:
    registry = CollectorRegistry()
    registry.register(MetricsCollector(hub))
    hub.open("e")
    assert registry.get_sample_value("lg_streaming_executions_running") == 1
    assert registry.get_sample_value("lg_streaming_connections", {"transport": "sse"}) is None


async def test_a_log_that_is_away_takes_only_the_lag_with_it() -> None:
    log = FaultyLog()
    hub = StreamHub(log=log)
    reader = hub.subscribe("e")
    log.away = True
    samples = await scrape(hub)
    assert value(samples, "readers") == 1
    assert ("lg_streaming_reader_lag_updates", frozenset[Any]()) not in samples
    reader.close()
    log.away = False
    await hub.aclose()


# --- GET /metrics ---------------------------------------------------------------------------------------------


def ask(running: Site, token: str | None = None) -> tuple[int, str, str]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    response = httpx2.get(f"{running.url}/metrics", headers=headers)
    return response.status_code, response.headers.get("content-type", ""), response.text


def test_the_route_serves_them() -> None:
    with site() as running:
        running.hub.open("e")
        status, content_type, body = ask(running)
    assert (status, content_type.partition(";")[0]) == (200, "text/plain")
    samples = samples_of(body)
    assert value(samples, "executions_running") == 1
    assert value(samples, "connections", transport="sse") == 0


@pytest.mark.row("FLOW-10", "FLOW-D5")
def test_switched_off_nothing_is_served() -> None:
    with site(gateway={"metrics": False}) as running:
        assert ask(running)[0] == 404
    with site(gateway={"metrics": True}) as running:
        assert ask(running)[0] == 200


@pytest.mark.parametrize(
    ("grants", "status"),
    [
        (None, 403),
        ([{"actions": ["read"], "executions": ["*"]}], 403),
        ([{"actions": ["control"], "executions": ["**"]}], 403),
        ([{"actions": ["read"], "executions": ["**"]}], 200),
        ([{"actions": ["read"], "executions": ["lg_streaming/metrics"]}], 200),
    ],
)
def test_with_authentication_they_are_for_those_who_may_read_them(grants: Any, status: int) -> None:
    claims = {"sub": "alice", "exp": 4_000_000_000} | ({"lg_streaming": grants} if grants else {})
    with site(auth={"secret": SECRET}) as running:
        assert ask(running)[0] == 401
        assert ask(running, jwt.encode(claims, SECRET, "HS256"))[0] == status


def test_they_cannot_be_used_to_try_out_tokens() -> None:
    with site(auth={"secret": SECRET}, limits={"failed_logins_per_address": "3/minute"}) as place:
        guessed = {"Authorization": "Bearer guessed"}
        answers = [httpx2.get(f"{place.url}/metrics", headers=guessed).status_code for _ in range(5)]
    assert answers == [401, 401, 401, 429, 429]


async def test_a_missing_package_is_named_where_metrics_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client.exposition", None)
    monkeypatch.delitem(sys.modules, "lg_streaming.observability.metrics")
    hub = StreamHub()
    with pytest.raises(MissingExtraError, match=re.escape("pip install 'lg-streaming[metrics]'")):
        Gateway(hub, StreamingSettings.model_validate({"gateway": {"metrics": True}}))
    gateway = Gateway(hub, StreamingSettings())
    assert "/metrics" not in {getattr(route, "path", "") for route in gateway.router.routes}
    await hub.aclose()


async def test_the_page_has_every_metric_with_its_labels(hub: StreamHub, root: Path) -> None:
    page = (root / "docs" / "guide" / "observability.md").read_text(encoding="utf-8")
    told = {
        name: frozenset(re.findall(r"`(\w+)`", labels))
        for name, labels in re.findall(r"^\| `([a-z_]+)` \|([^|]*)\|", page, re.MULTILINE)
    }
    _, body = await metrics_text(hub, GatewayMetrics())
    served = {
        sample.name.removeprefix("lg_streaming_").removesuffix("_bucket"): frozenset(sample.labels)
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if not sample.name.endswith(("_count", "_sum", "_created"))
    }
    assert told == served
