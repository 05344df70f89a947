"""The API is as it is described: schemathesis asks it what the description allows and what it does
not, in process and within bounds that fit a unit test."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

from ivr.model import Agent
from tests.unit.cti.test_web import FAST, PASSWORD, Site
from tests.unit.cti.test_web import site as site

CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
EXAMPLES = 150
ALL = frozenset({"agent", "supervisor", "designer", "admin"})


_known: dict[int, list[Any]] = {}


def _operations(site: Site) -> list[Any]:
    if id(site.app) not in _known:
        schema = schemathesis.openapi.from_dict(site.app.openapi())
        _known.clear()
        _known[id(site.app)] = [found.ok() for found in schema.get_all_operations()]
    return _known[id(site.app)]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
async def test_the_api_is_as_it_is_described(
    site: Site, mode: GenerationMode, data: st.DataObject
) -> None:
    """No fault of ours, no status, type or field that the description does not tell; all roles in
    one, so that every route is reached."""
    await site.world.store.save_agent(Agent("all", "All", "201", roles=ALL), FAST.hash(PASSWORD))
    await site.world.store.revoke_tokens("all")  # only so many are kept, and time stands still
    operation = data.draw(st.sampled_from(_operations(site)))
    try:
        case = data.draw(operation.as_strategy(generation_mode=mode))
    except schemathesis.core.errors.InvalidSchema:
        return  # nothing about this operation can be wrong
    sent: dict[str, Any] = case.as_transport_kwargs(base_url="http://hotline")
    headers = {
        name: value
        for name, value in (sent.get("headers") or {}).items()
        if name.lower() not in ("authorization", "origin")
    }
    bearer = {"Authorization": f"Bearer {await site.token('all')}"}
    answer = await site.http.request(
        sent["method"],
        sent["url"],
        params=sent.get("params"),
        headers={**headers, **bearer},
        **{name: sent[name] for name in ("json", "data", "content") if name in sent},
    )
    case.validate_response(answer, checks=CHECKS)


def test_every_route_says_what_it_does_and_answers(site: Site) -> None:
    paths: dict[str, Any] = site.app.openapi()["paths"]
    assert len(paths) >= 20
    for path, operations in paths.items():
        for method, operation in operations.items():
            where = f"{method} {path}"
            assert operation.get("description"), where
            good = [code for code in operation["responses"] if code[0] == "2"]
            assert good, where
            for code in good:
                content = operation["responses"][code].get("content", {})
                schemas = [one["schema"] for one in content.values() if one.get("schema")]
                assert schemas or code == "204" or "audio/wav" in content or content, where
            wrong = operation["responses"]["4XX"]["content"]["application/json"]["schema"]
            assert wrong == {"$ref": "#/components/schemas/ErrorAnswer"}, where
