"""The OpenAPI document: what FastAPI finds in the routes, completed by what all operations have in common.

`python -m api.openapi` writes it to where its snapshot is kept; with `--check`, it says whether that differs.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import TypeAdapter

from api import responses
from api.links import links
from api.schemas.api_keys import NewKey
from api.schemas.ids import PATTERNS
from api.schemas.image_sets import ImageSetChanges, NewImageSet, NewSetItems, SentSetItem
from api.schemas.ingestions import IngestionOptions, PrefixIngestion
from api.schemas.job_actions import ActionRequest
from api.schemas.pairs import ComparisonRequest, DriftRequest
from api.schemas.problems import Problem
from api.schemas.results import Scores
from api.schemas.retries import RetryRequest
from api.schemas.set_searches import SearchRequest
from api.schemas.submissions import JOB_REQUEST
from api.schemas.summaries import SummaryRequest
from api.schemas.webhooks import EndpointChanges, NewEndpoint, Rotation

EXAMPLES = Path(__file__).resolve().parent / "examples"
"""A file for each operation: the examples of its request by media type, of its answers by status too."""
SNAPSHOT = Path(__file__).resolve().parents[1] / "docs" / "reference" / "openapi.json"
REF = "#/components/schemas/{model}"

DESCRIPTION = """\
Submit pictures, poll, fetch what every layer of a SigLIP model reads in them.

A key comes with every request, `Authorization: Bearer lq_...`; the operator of the service makes them.
Errors are problems (RFC 9457) with a stable `code`. Times are RFC 3339 in UTC; what has a unit ends in it.
What a request says that is not described here is refused, not ignored; answers may gain fields.
"""
TAGS = {
    "health": "Whether this process is alive, and the service ready.",
    "images": "Pictures that are sent once and named in many jobs.",
    "image sets": "Named collections of pictures, with labels, sealed in versions that never change.",
    "jobs": "Submit a job, poll it, fetch its results.",
    "items": "One item of a job: its result, its arrays as files, its maps as numbers and as pictures.",
    "models": "Which models there are, who serves them, and what waits for them.",
    "workers": "Who computes, why one could not, and having one claim no more.",
    "queues": "What waits for each model, and the operator's hold on it.",
    "job actions": "Cancel, try again or delete many jobs at once, found by what they are.",
    "results": "The results of a job, in pages or as one file.",
    "webhooks": "Where the ends of jobs are told, and every message on its way there.",
    "api keys": "Keys of your tenant: made, looked at, revoked.",
    "usage": "What keys did by day, and what counts against the quotas.",
}
REQUESTS: Mapping[str, TypeAdapter[Any]] = {
    "JobRequest": JOB_REQUEST,
    **{
        body.__name__: TypeAdapter(body)
        for body in (
            ActionRequest,
            ComparisonRequest,
            DriftRequest,
            EndpointChanges,
            ImageSetChanges,
            IngestionOptions,
            NewEndpoint,
            NewImageSet,
            NewKey,
            NewSetItems,
            PrefixIngestion,
            RetryRequest,
            Rotation,
            SearchRequest,
            SentSetItem,
            SummaryRequest,
        )
    },
}
"""The bodies that routes parse themselves, by the name that these refer to."""
METHODS = ("get", "put", "post", "patch", "delete")


def operation_id(route: APIRoute) -> str:
    """What generated clients call the operation: as its function is called here."""
    return route.name


def document(app: FastAPI) -> dict[str, Any]:
    """The document of the application, made once."""
    if app.openapi_schema is None:
        app.openapi_schema = _document(app)
    return app.openapi_schema


def operations(made: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every operation of a document: its path, its method, and itself."""
    for path, item in made["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method]


def render(made: Mapping[str, Any]) -> str:
    """The document as it is kept in files."""
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def _document(app: FastAPI) -> dict[str, Any]:
    made = get_openapi(
        title=app.title,
        summary=app.summary,
        version=app.version,
        description=DESCRIPTION,
        contact={"name": "The operator of this service"},
        license_info={"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        servers=[{"url": "/", "description": "The service that this document came from."}],
        tags=[{"name": name, "description": description} for name, description in TAGS.items()],
        routes=app.routes,
    )
    components = made["components"]
    for name in ("HTTPValidationError", "ValidationError"):
        # the framework's own, which this service never answers with
        components["schemas"].pop(name, None)
    bodies: dict[str, TypeAdapter[Any]] = {
        "Problem": TypeAdapter(Problem),
        "Scores": TypeAdapter(Scores),
        **REQUESTS,
    }
    for name, body in bodies.items():
        schema = body.json_schema(ref_template=REF)
        components["schemas"].update(schema.pop("$defs", {}))
        components["schemas"][name] = schema
    for schema in components["schemas"].values():
        _drop_null_defaults(schema)
    for _, _, operation in operations(made):
        _complete(operation)
    used = {parameter for _, _, operation in operations(made) for parameter in _refs(operation)}
    for kind, shared in responses.components().items():
        components[kind] = shared
    components["responses"] = {
        name: shared
        for name, shared in components["responses"].items()
        if f"#/components/responses/{name}" in used
    }
    headers = used | _refs(components["responses"])
    components["headers"] = {
        name: header
        for name, header in components["headers"].items()
        if f"#/components/headers/{name}" in headers
    }
    return made


def _drop_null_defaults(schema: Mapping[str, Any]) -> None:
    """Leave out defaults that are no value of their property: it is absent, which is told apart from null."""
    for given in schema.get("properties", {}).values():
        if given.get("default", ...) is None and {"type": "null"} not in given.get("anyOf", ()):
            del given["default"]


def _complete(operation: dict[str, Any]) -> None:
    operation.setdefault("security", [])
    for parameter in operation.get("parameters", ()):
        _complete_parameter(parameter)
    name, answers = operation["operationId"], operation["responses"]
    # the framework's own description of 422 says less than ours
    if "HTTPValidationError" in json.dumps(answers.get("422", {})):
        del answers["422"]
    for status in responses.expected(operation):
        answers.setdefault(status, {"$ref": f"#/components/responses/{responses.PROBLEMS[status][0]}"})
    examples = _examples_of(name)
    for status, answer in answers.items():
        if "$ref" in answer:
            continue
        if answer["description"] == "Successful Response":
            answer["description"] = "As asked for." if status != "204" else "Done."
        if status >= "400" and "content" not in answer:
            answer["content"] = responses.problem_content(status)
        answer["headers"] = {
            **responses.headers(name, status, limited=bool(operation["security"])),
            **answer.get("headers", {}),
        }
        if led := links(name, status):
            answer["links"] = led
        _exemplify(answer, examples.get("responses", {}).get(status, {}))
    if "requestBody" in operation:
        _exemplify(operation["requestBody"], examples.get("request", {}))
    operation["responses"] = dict(sorted(answers.items()))


def _complete_parameter(parameter: dict[str, Any]) -> None:
    schema = parameter["schema"]
    where, name = parameter["in"], parameter["name"]
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) == 1:
        # absent is one thing, and a text that reads null another
        del schema["anyOf"]
        schema.update(options[0])
    if where == "header":
        if name.islower():
            parameter["name"] = "-".join(part.capitalize() for part in name.split("-"))
        if schema.get("type") == "array":
            # as one line: that is what several lines of a header amount to
            schema.pop("items")
            schema["type"] = "string"
    if name in PATTERNS:
        schema["pattern"] = PATTERNS[name]
    # the parameter's own says it already
    schema.pop("description", None)
    parameter.setdefault("description", _described(name))


def _described(name: str) -> str:
    what = name.removesuffix("_id").replace("_", " ")
    return f"The {what}'s id." if name.endswith("_id") else f"The {what}."


def _examples_of(name: str) -> dict[str, Any]:
    path = EXAMPLES / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def _exemplify(body: dict[str, Any], examples: Mapping[str, Any]) -> None:
    for media_type, given in examples.items():
        body["content"][media_type]["examples"] = given


def _refs(part: Any) -> set[str]:
    if isinstance(part, dict):
        own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
        return own.union(*map(_refs, part.values()))
    return set().union(*map(_refs, part)) if isinstance(part, list) else set()


def _main(*, check: bool) -> int:
    # only here: the application imports this module
    from api.app import create_app  # noqa: PLC0415
    from api.settings import ApiSettings  # noqa: PLC0415

    settings = ApiSettings(database_url="postgresql+psycopg://", broker_url="redis://", blobs=Path())
    made = render(document(create_app(settings)))
    if not check:
        SNAPSHOT.write_text(made)
    elif SNAPSHOT.read_text() != made:
        print(f"{SNAPSHOT} is not what the code says: run `python -m api.openapi`.")  # noqa: T201 - a command
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(check="--check" in sys.argv))
