"""Where an answer leads: which operations take what it holds (OpenAPI links).

Of what may not be there, the first of a list that may be empty for one, there is none: a link is a promise.
"""

from collections.abc import Mapping
from typing import Any

Leads = Mapping[str, tuple[str, Mapping[str, str]]]

_HERE = "$request.path."
_ID = "$response.body#/id"
_FIRST = "$response.body#/items/0/id"

_JOB = {"job_id": _ID}
_SAME_JOB = {"job_id": f"{_HERE}job_id"}
_SAME_ITEM = {**_SAME_JOB, "index": f"{_HERE}index"}
_KEY = {"key_id": _ID}
_ENDPOINT = {"endpoint_id": _ID}
_SAME_ENDPOINT = {"endpoint_id": f"{_HERE}endpoint_id"}
_SET = {"set_id": _ID}
_VERSION = {"version_id": _ID}
_SAME_VERSION = {"version_id": f"{_HERE}version_id"}
_IMAGE = {"image_id": _FIRST}


def _of_job(given: Mapping[str, str]) -> Leads:
    return {
        "poll": ("read_job", given),
        "results": ("read_results", given),
        "events": ("read_events", given),
        "request": ("read_request", given),
        "cancel": ("cancel_job", given),
        "retry": ("retry_job", given),
        "delete": ("delete_job", given),
    }


def _of_endpoint(given: Mapping[str, str]) -> Leads:
    return {
        "look": ("read_webhook_endpoint", given),
        "change": ("change_webhook_endpoint", given),
        "verify": ("verify_webhook_endpoint", given),
        "rotate_secret": ("rotate_webhook_secret", given),
        "deliveries": ("list_webhook_deliveries", given),
        "delete": ("delete_webhook_endpoint", given),
    }


def _of_set(given: Mapping[str, str]) -> Leads:
    return {
        "look": ("read_image_set", given),
        "change": ("change_image_set", given),
        "add": ("add_set_items", given),
        "seal": ("seal_image_set", given),
        "first_version": ("read_numbered_version", {**given, "number": "1"}),
        "delete": ("delete_image_set", given),
    }


def _of_version(given: Mapping[str, str]) -> Leads:
    return {
        "look": ("read_set_version", given),
        "items": ("list_set_items", given),
        "manifest": ("fetch_manifest", given),
    }


def _of_image(given: Mapping[str, str]) -> Leads:
    return {"look": ("read_image", given), "delete": ("delete_image", given)}


def _of_item(given: Mapping[str, str]) -> Leads:
    return {
        "scores": ("read_scores", given),
        "heatmap": ("draw_heatmap", given),
        "overlay": ("draw_overlay", given),
        "thumbnail": ("fetch_thumbnail", given),
        "patch": ("fetch_output", {**given, "name": "patch"}),
    }


LINKS: Mapping[str, Mapping[str, Leads]] = {
    "submit_job": {"202": _of_job(_JOB)},
    "retry_job": {"202": _of_job(_JOB)},
    "search_version": {"202": _of_job(_JOB)},
    "read_job": {"200": _of_job(_SAME_JOB)},
    "cancel_job": {"200": _of_job(_SAME_JOB), "202": _of_job(_SAME_JOB)},
    "read_results": {
        "200": {"item": ("read_item", {**_SAME_JOB, "index": "$response.body#/items/0/index"})},
    },
    "read_item": {"200": _of_item(_SAME_ITEM)},
    "create_action": {"202": {"look": ("read_action", {"action_id": _ID})}},
    "create_images": {"200": _of_image(_IMAGE), "201": _of_image(_IMAGE)},
    "read_image": {"200": _of_image({"image_id": f"{_HERE}image_id"})},
    "create_image_set": {"201": _of_set(_SET)},
    "read_image_set": {"200": _of_set({"set_id": f"{_HERE}set_id"})},
    "add_set_items": {"201": _of_version({"version_id": "$response.body#/version_id"})},
    "seal_image_set": {"200": _of_version(_VERSION)},
    "read_numbered_version": {"200": _of_version(_VERSION)},
    "read_set_version": {"200": _of_version(_SAME_VERSION)},
    "create_key": {"201": {"look": ("read_key", _KEY), "revoke": ("revoke_key", _KEY)}},
    "create_webhook_endpoint": {"201": _of_endpoint(_ENDPOINT)},
    "read_webhook_endpoint": {"200": _of_endpoint(_SAME_ENDPOINT)},
}
"""Operation -> status -> name of the link -> the operation it leads to, and where its parameters are."""


def links(operation_id: str, status: str) -> dict[str, Any]:
    """The links of one answer."""
    return {
        name: {"operationId": operation, "parameters": dict(parameters)}
        for name, (operation, parameters) in LINKS.get(operation_id, {}).get(status, {}).items()
    }
