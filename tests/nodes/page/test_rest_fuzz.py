"""Whatever is sent to the REST face: what comes back is what its description says, and never a 500."""

from __future__ import annotations

import pytest

schemathesis = pytest.importorskip("schemathesis", reason="make test installs schemathesis")

from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    negative_data_rejection,
    positive_data_acceptance,
)

from cellwatch.nodes.page.attempts import Attempts  # noqa: E402
from cellwatch.nodes.page.users import Role  # noqa: E402

IN_ORDER = {"/api/v1/history", "/api/v1/labels"}  # of a beginning and an end, which no schema can say
ENDS_THE_SESSION = {"/api/v1/logout", "/api/v1/login"}
EXAMPLES = 8


@pytest.fixture(scope="module")
def engineer(_shared):
    return _shared.browser(Role.ENGINEER)


@pytest.fixture(scope="module")
def operations(engineer):
    """All routes, for somebody who is logged in: what happens to others is in test_rest.py."""
    described = engineer.get("openapi.json").body
    del described["components"]["securitySchemes"]
    for route in (route for path in described["paths"].values() for route in path.values()):
        route.pop("security", None)
        route["parameters"] = [p for p in route.get("parameters", []) if p["in"] != "header"]
    schema = schemathesis.openapi.from_dict(described)
    return [found.ok() for found in schema.get_all_operations()]


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_every_route_keeps_to_its_description(_shared, engineer, operations, method, mode):
    asked = [operation for operation in operations if operation.method == method]
    assert len(asked) >= 12
    if mode == schemathesis.GenerationMode.NEGATIVE:  # what takes nothing cannot be asked wrongly
        asked = [o for o in asked if o.query or o.body]
    for operation in asked:
        _shared.access.attempts = Attempts()
        headers = {"X-CSRF-Token": engineer.csrf}
        if operation.path not in ENDS_THE_SESSION:
            headers["Cookie"] = "; ".join(f"{k}={v}" for k, v in engineer.cookies.items())
        fuzz(operation, mode, engineer.origin, headers)


def fuzz(operation, mode, origin, headers):
    excluded = [positive_data_acceptance] if operation.path in IN_ORDER else []
    if operation.method == "get":  # in a query everything is a text
        excluded.append(negative_data_rejection)

    @seed(17)
    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case):
        case.call_and_validate(base_url=origin, headers=headers, excluded_checks=excluded, timeout=60)

    ask()
