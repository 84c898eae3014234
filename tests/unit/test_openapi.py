"""The OpenAPI document: complete, the same for all operations, and as its snapshot says."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from api.app import create_app
from api.links import LINKS
from api.openapi import EXAMPLES, SNAPSHOT, TAGS, document, operations, render
from api.responses import OF_RESULTS
from api.settings import ApiSettings

BINARY = {"type": "string", "format": "binary"}


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    settings = ApiSettings(database_url="postgresql+psycopg://", broker_url="redis://", blobs=Path())
    return document(create_app(settings))


@pytest.fixture(scope="module")
def named(made: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {operation["operationId"]: operation for _, _, operation in operations(made)}


def test_the_snapshot_is_what_the_code_says(made: dict[str, Any]) -> None:
    assert SNAPSHOT.read_text() == render(made), "run python -m api.openapi and look at what changed"


def test_operations_are_called_as_their_functions_and_each_once(
    made: dict[str, Any], named: dict[str, dict[str, Any]]
) -> None:
    assert len(named) == len(list(operations(made)))
    assert {"submit_job", "read_job", "read_results"} <= set(named)
    assert all(name.isidentifier() for name in named)


def test_every_operation_says_what_it_is(named: dict[str, dict[str, Any]]) -> None:
    for name, operation in named.items():
        assert operation["summary"], name
        assert operation["description"], name
        assert set(operation["tags"]) <= set(TAGS), name


def test_every_refusal_is_a_problem(made: dict[str, Any], named: dict[str, dict[str, Any]]) -> None:
    for name, operation in named.items():
        statuses = set(operation["responses"])
        assert "422" in statuses, name
        if operation["security"]:
            assert {"401", "403", "503"} <= statuses, name
        for status, answer in operation["responses"].items():
            if status.startswith(("4", "5")):
                assert list(_resolved(made, answer)["content"]) == ["application/problem+json"], (
                    name,
                    status,
                )


def test_the_frameworks_own_errors_are_not_mentioned(made: dict[str, Any]) -> None:
    assert "HTTPValidationError" not in render(made)


def test_every_answer_has_the_requests_id(made: dict[str, Any], named: dict[str, dict[str, Any]]) -> None:
    for operation in named.values():
        for answer in operation["responses"].values():
            assert "X-Request-Id" in _resolved(made, answer)["headers"]


def test_tables_name_operations_and_answers_that_there_are(named: dict[str, dict[str, Any]]) -> None:
    for table in (LINKS, OF_RESULTS):
        for name, statuses in table.items():
            assert set(statuses) <= set(named[name]["responses"])
    assert {path.stem for path in EXAMPLES.iterdir()} <= set(named)


def test_links_give_parameters_that_their_operation_has(named: dict[str, dict[str, Any]]) -> None:
    for statuses in LINKS.values():
        for led in statuses.values():
            for target, given in led.values():
                parameters = {parameter["name"] for parameter in named[target].get("parameters", ())}
                required = {p["name"] for p in named[target].get("parameters", ()) if p.get("required")}
                assert required <= set(given) <= parameters


def test_every_operation_has_examples_that_fit_their_schemas(
    made: dict[str, Any], named: dict[str, dict[str, Any]]
) -> None:
    for name, operation in named.items():
        bodies = [(f"{name} request", operation["requestBody"])] if "requestBody" in operation else []
        bodies += [
            (f"{name} {status}", answer)
            for status, answer in operation["responses"].items()
            if status.startswith("2")
        ]
        for where, body in bodies:
            for media_type, content in body.get("content", {}).items():
                if content.get("schema") == BINARY:
                    continue  # bytes are no text that a document could hold
                assert content.get("examples"), f"{where}: {media_type} has no example"
                for example in content["examples"].values():
                    _check(made, content["schema"], example["value"], where)


def test_problems_have_examples_that_fit_their_schema(made: dict[str, Any]) -> None:
    for answer in made["components"]["responses"].values():
        for content in answer["content"].values():
            for example in content["examples"].values():
                _check(made, content["schema"], example["value"], answer["description"])


def test_what_is_refused_as_a_parameter_is_not_offered_as_one(named: dict[str, dict[str, Any]]) -> None:
    for name, operation in named.items():
        for parameter in operation.get("parameters", ()):
            assert {"type": "null"} not in parameter["schema"].get("anyOf", ()), (name, parameter["name"])
            if parameter["in"] == "path" and parameter["name"].endswith("_id"):
                assert parameter["schema"]["pattern"], (name, parameter["name"])


def _check(made: dict[str, Any], schema: dict[str, Any], value: Any, where: str) -> None:
    whole = {"components": made["components"], **schema}
    faults = [error.message for error in Draft202012Validator(whole).iter_errors(value)]
    assert not faults, (where, faults[:3])


def _resolved(made: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    resolved: dict[str, Any] = part
    if "$ref" in part:
        kind, name = part["$ref"].split("/")[-2:]
        resolved = made["components"][kind][name]
    return json.loads(json.dumps(resolved))  # type: ignore[no-any-return]  # of JSON
