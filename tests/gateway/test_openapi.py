"""The description of the HTTP routes is right: machine-made requests, good and bad ones, against a real server."""

import json
from collections.abc import Generator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import checks
from schemathesis.specs.openapi import checks as openapi_checks

from lg_streaming.gateway.http.openapi import openapi_schema
from tests.gateway.site import Site, site

CHECKS: list[Any] = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.negative_data_rejection,
    openapi_checks.unsupported_method,
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


SCHEMA: Any = schemathesis.openapi.from_dict(described())


@SCHEMA.parametrize()
@settings(
    max_examples=40,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.data_too_large],
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
