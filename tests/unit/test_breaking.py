"""Changes of the API's document that would break a client, each called by its name."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.breaking import breaks

BEFORE: dict[str, Any] = {
    "paths": {
        "/things": {
            "post": {
                "operationId": "make_thing",
                "parameters": [
                    {"in": "query", "name": "limit", "schema": {"type": "integer", "maximum": 200}},
                    {"in": "query", "name": "order", "schema": {"type": "string", "enum": ["up", "down"]}},
                ],
                "requestBody": {
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/NewThing"}}}
                },
                "responses": {
                    "200": {
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}
                    },
                    "404": {"description": "There is none."},
                },
            }
        }
    },
    "components": {
        "schemas": {
            "NewThing": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "parts": {"type": "array", "items": {}}},
                "additionalProperties": False,
            },
            "Thing": {
                "type": "object",
                "required": ["id"],
                "properties": {
                    "id": {"type": "string"},
                    "inside": {"$ref": "#/components/schemas/Thing"},
                    "state": {"type": "string", "enum": ["new", "old"]},
                },
            },
        }
    },
}
Change = Callable[[dict[str, Any], dict[str, Any], dict[str, Any]], Any]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda made, _new, _thing: made["responses"].pop("404"), "the response 404 is gone"),
        (lambda made, _new, _thing: made["parameters"].pop(0), "the query parameter limit is gone"),
        (lambda made, _new, _thing: made["parameters"][0].update(required=True), "limit is now required"),
        (
            lambda made, _new, _thing: made["parameters"][0]["schema"].update(maximum=100),
            "maximum is now 100",
        ),
        (
            lambda made, _new, _thing: made["parameters"][1]["schema"]["enum"].remove("up"),
            "'up' is no longer",
        ),
        (
            lambda made, _new, _thing: made.update(operationId="create"),
            "operationId make_thing is now create",
        ),
        (
            lambda made, _new, _thing: made["parameters"].append(
                {"in": "header", "name": "If-Match", "required": True, "schema": {}}
            ),
            "the header parameter If-Match is new and required",
        ),
        (lambda _made, new, _thing: new.update(required=["name"]), "the property name is now required"),
        (lambda _made, new, _thing: new["properties"].pop("parts"), "the property parts is no longer taken"),
        (
            lambda _made, new, _thing: new["properties"]["name"].update(type="integer"),
            "request.name: the type string is now integer",
        ),
        (lambda _made, _new, thing: thing["properties"].pop("state"), "the property state is gone"),
        (lambda _made, _new, thing: thing.update(required=[]), "the property id may be absent now"),
        (lambda _made, _new, thing: thing["properties"]["state"]["enum"].append("lost"), "'lost' is new"),
        (
            lambda _made, _new, thing: thing["properties"]["id"].update(type=["string", "null"]),
            "200.id: the type string is now null/string",
        ),
    ],
)
def test_a_breaking_change_is_named(change: Change, named: str) -> None:
    after = copy.deepcopy(BEFORE)
    schemas = after["components"]["schemas"]
    change(after["paths"]["/things"]["post"], schemas["NewThing"], schemas["Thing"])
    (found,) = breaks(BEFORE, after)
    assert found.startswith("POST /things: ")
    assert named in found


def test_an_operation_that_is_gone_is_named() -> None:
    assert breaks(BEFORE, {"paths": {}}) == ["POST /things: the operation is gone"]


def test_what_is_added_breaks_nobody() -> None:
    after = copy.deepcopy(BEFORE)
    after["paths"]["/others"] = after["paths"]["/things"]
    made = after["paths"]["/things"]["post"]
    made["parameters"].append({"in": "query", "name": "page", "schema": {"type": "string"}})
    made["responses"]["409"] = {"description": "It is there already."}
    after["components"]["schemas"]["NewThing"]["properties"]["colour"] = {"type": "string"}
    after["components"]["schemas"]["Thing"]["properties"]["colour"] = {"type": "string"}
    assert breaks(BEFORE, after) == []
