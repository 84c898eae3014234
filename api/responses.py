"""What operations answer beside their results: problems and headers, described once for all of them."""

from collections.abc import Mapping
from typing import Any

from api.errors import MEDIA_TYPE

PROBLEM = {"$ref": "#/components/schemas/Problem"}

PROBLEMS: Mapping[str, tuple[str, str, str, str]] = {
    "400": (
        "Malformed",
        "malformed-body",
        "The body is not valid JSON: line 1 column 1.",
        "The body cannot be read.",
    ),
    "401": (
        "Unauthenticated",
        "unauthenticated",
        "Send an API key: `Authorization: Bearer lq_...`.",
        "No API key was sent (`unauthenticated`), or one that is not good, any more (`invalid-key`).",
    ),
    "403": (
        "Forbidden",
        "insufficient-scope",
        "This needs a key with the scope `submit`.",
        "The key has not the scope that this needs (`insufficient-scope`).",
    ),
    "404": (
        "NotFound",
        "not-found",
        "There is nothing of that id for this key.",
        "There is nothing of that id, or it is another tenant's: both are answered alike.",
    ),
    "406": (
        "NotAcceptable",
        "not-acceptable",
        "Accept application/json.",
        "There is no such form of it as `Accept` asks for.",
    ),
    "408": (
        "Stalled",
        "body-stalled",
        "Nothing of the body came for 30 s; nothing was accepted, send it again.",
        "The body stopped coming (`body-stalled`); the connection is closed.",
    ),
    "409": (
        "Conflict",
        "already-ended",
        "The job has ended already.",
        "It does not fit how things stand.",
    ),
    "410": (
        "Gone",
        "results-expired",
        "The results were kept for `result_ttl_s` and then removed; the job itself stays.",
        "It was there, and was removed.",
    ),
    "413": (
        "TooLarge",
        "body-too-large",
        "The body is larger than 268435456 bytes: send fewer pictures in one request.",
        "The body is larger than the service takes.",
    ),
    "415": (
        "UnsupportedMediaType",
        "unsupported-media-type",
        "Send `application/json`, or `multipart/form-data` with a part `job` and parts `images`.",
        "The body's `Content-Type` is none that is taken here.",
    ),
    "416": (
        "RangeNotSatisfiable",
        "range-not-satisfiable",
        "It has 1024 bytes.",
        "The `Range` lies beyond the end.",
    ),
    "422": (
        "Invalid",
        "invalid-request",
        "/labels/1: Input should be a valid string",
        "The request does not say what it must: `errors` says where, a parameter that is unknown among it.",
    ),
    "429": (
        "TooMany",
        "quota-exceeded",
        "Too much of yours is waiting already; nothing was accepted, try again when some of it is done.",
        "Too much of this key or its tenant: try again after `Retry-After`.",
    ),
    "503": (
        "Unavailable",
        "unavailable",
        "The database does not answer. Try again soon; a job with an Idempotency-Key is never made twice.",
        "The database is away, there is no room, or others hold what it needs: try again by `Retry-After`.",
    ),
}
"""Status -> the name of the shared response, a code and detail as an example, its description."""


def _header(description: str, schema: Mapping[str, Any], *, always: bool = False) -> dict[str, Any]:
    return {"description": description, "schema": dict(schema)} | ({"required": True} if always else {})


_SECONDS = {"type": "integer", "minimum": 0}
_TEXT = {"type": "string"}

HEADERS: Mapping[str, dict[str, Any]] = {
    "X-Request-Id": _header(
        "Names this request in the log.", {"type": "string", "pattern": "^req_[0-9a-f]{32}$"}, always=True
    ),
    "WWW-Authenticate": _header("How to authenticate.", _TEXT, always=True),
    "Retry-After": _header("Seconds after which to ask again.", _SECONDS),
    "Location": _header("Where what was made is found.", {"type": "string", "format": "uri-reference"}),
    "ETag": _header("The tag of this answer, for `If-None-Match`.", _TEXT, always=True),
    "Cache-Control": _header("Whether the answer may be kept.", _TEXT, always=True),
    "Link": _header("The next page, as a URL with rel=next.", _TEXT),
    "Preference-Applied": _header("The wait that was granted of `Prefer`.", _TEXT),
    "Idempotency-Replayed": _header(
        "`true` where the answer is about what the Idempotency-Key made before.",
        {"type": "string", "const": "true"},
    ),
    "Content-Disposition": _header("A name for the file.", _TEXT),
    "RateLimit": _header("What is left of the limit, and the seconds until it is whole again.", _TEXT),
    "RateLimit-Policy": _header("The limit, and the seconds that it is for.", _TEXT),
    "Content-Range": _header("Which part of the whole this is.", _TEXT),
    "Accept-Ranges": _header("`bytes` where parts can be asked for.", _TEXT),
    "Vary": _header("What else the answer depends on.", _TEXT),
}

OF_PROBLEMS: Mapping[str, tuple[str, ...]] = {
    "401": ("WWW-Authenticate",),
    "429": ("Retry-After",),
    "503": ("Retry-After",),
}

_TAGGED = {"200": ("ETag", "Cache-Control"), "304": ("ETag", "Cache-Control")}
_PARTS = {"206": ("Content-Range", "Accept-Ranges"), "416": ("Content-Range",)}
_POLLED = ("Retry-After",)
_MADE = ("Location", "Cache-Control", "Idempotency-Replayed")
_SUBMITTED = ("Location", "Preference-Applied", "Idempotency-Replayed")

OF_RESULTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "submit_job": {"200": _SUBMITTED, "202": (*_SUBMITTED, *_POLLED)},
    "read_job": {
        "200": (*_TAGGED["200"], "Preference-Applied", *_POLLED),
        "304": (*_TAGGED["304"], "Preference-Applied", *_POLLED),
    },
    "cancel_job": {"202": _POLLED},
    "retry_job": {"202": ("Location", "Idempotency-Replayed", *_POLLED)},
    "search_version": {
        "200": ("Preference-Applied",),
        "202": ("Location", "Preference-Applied", *_POLLED),
    },
    "list_jobs": {"200": ("Link",)},
    "list_actions": {"200": ("Link",)},
    "create_action": {"202": ("Location", "Idempotency-Replayed")},
    "create_image_set": {"201": ("Location", "Idempotency-Replayed")},
    "add_set_items": {"201": ("Location", "Idempotency-Replayed")},
    "fetch_manifest": _TAGGED,
    "create_key": {"201": _MADE},
    "create_webhook_endpoint": {"201": _MADE},
    "rotate_webhook_secret": {"200": ("Cache-Control",)},
    "read_events": {"200": ("Cache-Control",)},
    "read_results": {
        "200": ("Link", "Vary", "Accept-Ranges", "Content-Disposition"),
        "304": _TAGGED["304"],
        **_PARTS,
    },
    "read_scores": _TAGGED | _PARTS,
    "fetch_output": {
        "200": (*_TAGGED["200"], "Accept-Ranges", "Content-Disposition"),
        "304": _TAGGED["304"],
        **_PARTS,
    },
    "draw_heatmap": _TAGGED,
    "draw_overlay": _TAGGED,
    "fetch_thumbnail": _TAGGED,
}
"""Operation -> status -> the headers that it has beside those of every answer."""


def components() -> dict[str, Any]:
    """The shared responses and headers, for the document's components."""
    responses = {}
    for status, (name, code, detail, description) in PROBLEMS.items():
        responses[name] = {
            "description": description,
            "headers": headers("", status),
            "content": problem_content(status, code, detail),
        }
    return {"responses": responses, "headers": dict(HEADERS)}


def headers(operation_id: str, status: str, *, limited: bool = True) -> dict[str, Any]:
    """References to the headers of an answer; `limited` where a key's rate limit is told."""
    own = OF_RESULTS.get(operation_id, {}).get(status, ())
    limits = ("RateLimit", "RateLimit-Policy") if limited and status != "401" else ()
    names = ("X-Request-Id", *limits, *OF_PROBLEMS.get(status, ()), *own)
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def problem_content(status: str, code: str | None = None, detail: str | None = None) -> dict[str, Any]:
    """The content of a problem response, with one as an example."""
    _, usual_code, usual_detail, _ = PROBLEMS[status]
    code = code or usual_code
    example = {
        "type": f"urn:lensqueue:problem:{code}",
        "title": code.replace("-", " ").capitalize(),
        "status": int(status),
        "detail": detail or usual_detail,
        "code": code,
        "request_id": "req_3f0b6a1c9f5e4f0fa2b4d9a9d1f1c0de",
    }
    if status == "422":
        example["errors"] = [{"pointer": "/labels/1", "message": "Input should be a valid string"}]
    return {MEDIA_TYPE: {"schema": PROBLEM, "examples": {code: {"value": example}}}}


def expected(operation: Mapping[str, Any]) -> list[str]:
    """The problems that an operation may answer with by what it takes: a key, ids, a body."""
    statuses = ["422"]
    if operation.get("security"):
        statuses += ["401", "403", "429", "503"]
    parameters = operation.get("parameters", ())
    if any(parameter["in"] == "path" for parameter in parameters):
        statuses.append("404")
    if any(parameter["name"] == "Idempotency-Key" for parameter in parameters):
        # another request with the key is at it for long; what the key made before is gone
        statuses += ["409", "410"]
    if "requestBody" in operation:
        statuses += ["400", "408", "413", "415"]
    return statuses
