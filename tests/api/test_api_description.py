"""The description of the API is whole: every route has what a reader needs."""

import typing as t

import jsonschema
import pytest

from api.app import MAX_BODY
from api.auth import CONTROL, NONE, needed_scope_of
from api.openapi import TAGS, complete, document, field_comments, operations
from api.openapi_examples import BODIES, MODELS
from api.openapi_static import describe
from api.tokens import SCOPES
from api.views import ConnectionView
from scripts.api_reference import TARGET, reference
from tests.api.conftest import Served


async def test_every_operation_is_described(served: Served) -> None:
    """One known tag, a summary, an id of its own, a scope, and what goes wrong."""
    found = document(served.apps.app)
    ids = set()
    count = 0
    for path, method, handler in operations(served.apps.app):
        if not handler.resolve_include_in_schema():
            continue
        if method == "options":
            continue
        count += 1
        operation = found["paths"][path][method]
        where = f"{method} {path}"
        assert len(operation["tags"]) == 1, where
        assert operation["tags"][0] in TAGS, f"{where}: unknown tag {operation['tags'][0]}"
        assert handler.summary, f"{where} has no summary"
        assert operation["operationId"] not in ids, where
        ids.add(operation["operationId"])
        scope = needed_scope_of(handler, method.upper())
        assert scope in (*SCOPES, NONE, CONTROL), f"{where}: unknown scope {scope}"
        assert ("401" in operation["responses"]) >= (scope != NONE), where
        for status in ("429", "500", "503"):
            assert status in operation["responses"], where
        for status, answer in operation["responses"].items():
            if int(status) >= 400:
                assert "application/problem+json" in answer["content"], where
        if "{name}" in path:
            assert "404" in operation["responses"], where
    assert count >= 50


async def test_it_is_made_once(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes long, and holds up the loop; both doorways share it."""
    made = []

    def count(*args: t.Any) -> t.Any:
        made.append(1)
        return complete(*args)

    monkeypatch.setattr("api.openapi.complete", count)
    headers = await served.headers("read")
    answers = [
        await client.get("/schema/openapi.json", headers=headers)
        for client in (served.http, served.operator, served.http)
    ]
    assert len({answer.content for answer in answers}) == 1
    assert answers[0].json()["openapi"].startswith("3.1")
    assert len(made) == 1


async def test_it_is_served(served: Served) -> None:
    """To whoever may read."""
    assert (await served.http.get("/schema/openapi.json")).status_code == 401
    answer = await served.http.get("/schema/openapi.json", headers=await served.headers("read"))
    assert answer.json()["openapi"].startswith("3.1")
    assert answer.json()["paths"] == document(served.apps.app)["paths"]


async def test_the_words_of_the_classes_are_in_it(served: Served) -> None:
    """What is written beside a field is what a reader of the description gets."""
    assert field_comments(ConnectionView)["until"] == "when a ban is over"
    schema = document(served.apps.app)["components"]["schemas"]["ConnectionView"]
    assert "zapvisor status" in schema["description"]
    assert schema["properties"]["until"]["description"] == "when a ban is over"


async def test_a_body_that_is_too_large(served: Served) -> None:
    """Is refused as a problem."""
    answer = await served.operator.post(
        "/tokens", content=b"x" * (MAX_BODY + 1), headers={"content-type": "application/json"}
    )
    assert answer.status_code == 413


async def test_examples_are_right(served: Served) -> None:
    """Each fits the model, or the body, that it is an example of; and no name is out of date."""
    found = document(served.apps.app)
    schemas = found["components"]["schemas"]
    for name, example in MODELS.items():
        schema = {"$ref": f"#/components/schemas/{name}", "components": found["components"]}
        jsonschema.validate(example, schema)
        assert schemas[name]["examples"] == [example]
    for method, path in BODIES:
        [content] = found["paths"][path][method]["requestBody"]["content"].values()
        assert content["examples"]
    for example in BODIES["post", "/connections/{name}/messages"].values():
        body = {**example["value"]}
        if "quoted" in body:
            body["quoted"] = served.control.storage.numbers["ANA1"]
        if "file" in body:
            uploaded = await served.operator.post("/media", content=b"jpeg")
            body["file"] = uploaded.json()["sha256"]
        answer = await served.operator.post("/connections/sales/messages", json=body)
        assert answer.status_code == 202, answer.text


def test_the_reference_is_up_to_date() -> None:
    """``docs/api.md`` is what the script makes of the routes as they are."""
    assert reference(describe("")) == TARGET.read_text(encoding="utf-8"), (
        "a route has changed: run python scripts/api_reference.py"
    )
