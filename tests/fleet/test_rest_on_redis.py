"""A gateway that produced nothing answers requests from a log on Redis, and outlasts a Redis that is away."""

from __future__ import annotations

import asyncio
import importlib
import logging

import httpx2
import pytest

from lg_streaming import StreamHub, StreamingSettings
from tests.gateway.site import site
from tests.support.redis_server import RedisServer

importlib.import_module("lg_streaming.log.redis.log")  # it reads files: before that is watched


async def test_the_routes_of_a_gateway_that_produced_nothing(caplog: pytest.LogCaptureFixture) -> None:
    server = RedisServer(["appendonly yes", "appendfsync always"])
    server.start()
    try:
        hub = StreamHub(StreamingSettings(log=server.url))
        hub.open("e", metadata={"topic": "rain"})
        hub.publish("e", "progress", {"progress": 40})
        await hub.close("e")
        await hub.aclose()
        with site(log=server.url) as place:
            async with httpx2.AsyncClient(base_url=place.url, timeout=20) as http:
                await check_routes(http)
                server.kill()
                paths = ("/executions", "/executions/e", "/executions/e/updates", "/executions/e/stream")
                for path in paths:
                    answer = await http.get(path)
                    assert (path, answer.status_code) == (path, 503)
                    error = answer.json()["error"]
                    assert (error["code"], error["retryable"]) == (5030, True)
                assert (await http.get("/metrics")).status_code in {200, 503}
                server.start()
                async with asyncio.timeout(15):
                    while (await http.get("/executions/e")).status_code != 200:
                        await asyncio.sleep(0.05)
                await check_routes(http)
    finally:
        server.stop()
    assert not [each for each in caplog.records if each.exc_info and each.levelno >= logging.WARNING]


async def check_routes(http: httpx2.AsyncClient) -> None:
    listed = (await http.get("/executions")).raise_for_status().json()["executions"]
    assert [(each["execution_id"], each["state"]) for each in listed] == [("e", "completed")]
    described = (await http.get("/executions/e")).raise_for_status().json()
    assert (described["state"], described["metadata"], described["progress"]) == ("completed", {"topic": "rain"}, 40)
    page = (await http.get("/executions/e/updates", params={"wait": 1})).raise_for_status().json()
    assert [each["metadata"]["sequence_number"] for each in page["updates"]] == [1, 2, 3]
    flowise = (await http.get("/executions/e/stream", params={"dialect": "flowise"})).raise_for_status()
    assert '"event":"end"' in flowise.text.replace(" ", "")
    for path in ("/health", "/metrics"):
        assert (await http.get(path)).status_code == 200, path
