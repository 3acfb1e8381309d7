"""Valid apps, modules and settings; all others are refused in one sentence."""

from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette

from lg_streaming import StreamHub, StreamingModule
from lg_streaming.errors import StreamingConfigError
from lg_streaming.gateway import Gateway
from lg_streaming.settings import AuthSettings


def module(prefix: str = "", **gateway: Any) -> StreamingModule:
    return StreamingModule({"gateway": {"prefix": prefix, **gateway}})


@pytest.mark.parametrize("make", [FastAPI, Starlette])
@pytest.mark.parametrize("prefix", ["", "/streaming"])
def test_a_second_module_at_the_same_paths_is_refused(make: type[Starlette], prefix: str) -> None:
    app, first, second = make(), module(prefix), module(prefix, namespace="/second", transports=["sse"])
    first.install(app)
    routes = list(app.router.routes)
    with pytest.raises(StreamingConfigError, match=r"gateway\.prefix"):
        second.install(app)
    assert app.router.routes == routes
    second.install(make())  # what was refused may go elsewhere
    with pytest.raises(StreamingConfigError, match="installed already"):
        first.install(app)


@pytest.mark.parametrize(
    ("first", "second"),
    [("", "/executions"), ("/executions/x", ""), ("", "/socket.io/y"), ("/a/executions", "/a"), ("/a", "/a/socket.io")],
)
def test_prefixes_whose_paths_meet_are_refused(first: str, second: str) -> None:
    app = FastAPI()
    module(first).install(app)
    with pytest.raises(StreamingConfigError, match="choose another prefix"):
        module(second).install(app)


@pytest.mark.parametrize(("first", "second"), [("", "/a"), ("/a", "/ab"), ("/a", "/a/b"), ("", "/executions2")])
def test_prefixes_whose_paths_do_not_meet_are_taken(first: str, second: str) -> None:
    app = FastAPI()
    module(first).install(app)
    module(second).install(app)


def test_two_gateways_at_the_same_paths_are_refused() -> None:
    app, hub = FastAPI(), StreamHub()
    Gateway(hub).install(app)
    with pytest.raises(StreamingConfigError, match="already"):
        Gateway(hub).install(app)


@pytest.mark.parametrize("app", [APIRouter(), None, "app:app", StreamHub])
def test_what_is_no_application_is_refused(app: Any) -> None:
    with pytest.raises(StreamingConfigError, match="FastAPI or Starlette application"):
        StreamingModule().install(app)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"gatway": {}}, "gatway"),
        ({"limits": {"connections": "many"}}, "connections"),
        ({1: 2}, "settings"),
        (FastAPI(), "not FastAPI"),
        (AuthSettings(), "not AuthSettings"),
        ("memory://", "not str"),
        ([], "not list"),
    ],
)
@pytest.mark.parametrize("make", [StreamingModule, StreamHub])
def test_settings_that_are_none_are_refused(make: Any, settings: Any, words: str) -> None:
    with pytest.raises(StreamingConfigError, match=words):
        make(settings)


def test_a_secret_in_settings_that_are_refused_is_not_shown() -> None:
    with pytest.raises(StreamingConfigError) as refused:
        StreamingModule({"auth": {"secret": "hunter2"}})
    assert "hunter2" not in str(refused.value)
