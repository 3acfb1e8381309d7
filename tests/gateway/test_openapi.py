"""The description of the HTTP routes is right: machine-made requests, good and bad ones, against a real server."""

import json
from collections.abc import Generator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from lg_streaming.gateway.openapi import openapi_schema
from tests.gateway.site import Site, site

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]


def described() -> dict[str, Any]:
    """Without streams, which may have no end, and without waiting; tickets are another file's."""
    schema = openapi_schema()
    del schema["paths"]["/executions/{execution_id}/stream"]
    del schema["paths"]["/tickets"]
    updates = schema["paths"]["/executions/{execution_id}/updates"]["get"]
    updates["parameters"] = [each for each in updates["parameters"] if each["name"] != "wait"]
    return schema


@pytest.fixture(scope="module")
def place() -> Generator[Site]:
    with site(auth={"enabled": False}, limits={"messages_per_second": None}) as running:
        for index in range(3):
            running.tokens(f"acme/run-{index}", 5)
            running.hub.publish(f"acme/run-{index}", "progress", {"progress": index})
        yield running


SCHEMA = schemathesis.openapi.from_dict(described())


@SCHEMA.parametrize()
@settings(
    max_examples=40,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)
def test_every_route_answers_as_described(case: Any, place: Site) -> None:
    case.call_and_validate(base_url=place.url, checks=CHECKS, timeout=10)


def test_each_route_is_described_and_each_reference_resolves(place: Site) -> None:
    schema = openapi_schema("/live")
    paths = {path.removeprefix("/live").replace("{execution_id}", "") for path in schema["paths"]}
    routes = {getattr(route, "path_format", "") for route in place.gateway.router.routes}
    assert {path.replace("{execution_id}", "") for path in routes} == paths
    text = json.dumps(schema)
    references = {part.split('"')[0] for part in text.split('"$ref": "#/components/schemas/')[1:]}
    assert references == schema["components"]["schemas"].keys()
    assert "#/$defs" not in text
