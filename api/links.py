"""Where an answer leads: which operations take what it holds (OpenAPI links)."""

from collections.abc import Mapping
from typing import Any

_JOB = {"job_id": "$response.body#/id"}
_FIRST_IMAGE = {"image_id": "$response.body#/items/0/id"}
_AGAIN = {"job_id": "$request.path.job_id"}
_JOB_LEADS_TO = {
    "poll": ("read_job", _JOB),
    "results": ("read_results", _JOB),
    "first_item": ("read_item", {**_JOB, "index": "0"}),
    "cancel": ("cancel_job", _JOB),
}
_ITEM = {"job_id": "$request.path.job_id", "index": "$request.path.index"}
_UPLOAD_LEADS_TO = {
    "look": ("read_image", _FIRST_IMAGE),
    "delete": ("delete_image", _FIRST_IMAGE),
}

Leads = Mapping[str, tuple[str, Mapping[str, str]]]
LINKS: Mapping[str, Mapping[str, Leads]] = {
    "submit_job": {"200": _JOB_LEADS_TO, "202": _JOB_LEADS_TO},
    "read_job": {"200": {"results": ("read_results", _AGAIN), "cancel": ("cancel_job", _AGAIN)}},
    "cancel_job": {"200": {"poll": ("read_job", _AGAIN)}, "202": {"poll": ("read_job", _AGAIN)}},
    "read_results": {
        "200": {
            "next_page": (
                "read_results",
                {"job_id": "$request.path.job_id", "page_token": "$response.body#/next_page_token"},
            ),
            "item": ("read_item", {**_AGAIN, "index": "$response.body#/items/0/index"}),
        }
    },
    "read_item": {
        "200": {
            "scores": ("read_scores", _ITEM),
            "heatmap": ("draw_heatmap", _ITEM),
            "overlay": ("draw_overlay", _ITEM),
            "thumbnail": ("fetch_thumbnail", _ITEM),
        }
    },
    "create_images": {"200": _UPLOAD_LEADS_TO, "201": _UPLOAD_LEADS_TO},
    "read_image": {"200": {"delete": ("delete_image", {"image_id": "$request.path.image_id"})}},
}
"""Operation -> status -> name of the link -> operation it leads to and where that one's parameters are."""


def links(operation_id: str, status: str) -> dict[str, Any]:
    """The links of one answer."""
    return {
        name: {"operationId": operation, "parameters": dict(parameters)}
        for name, (operation, parameters) in LINKS.get(operation_id, {}).get(status, {}).items()
    }
