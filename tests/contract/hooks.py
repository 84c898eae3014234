"""What Schemathesis is told of this service: pictures to send, and two checks of ours."""

import io
import os
import re
from functools import cache
from typing import Any

import requests
import schemathesis
from hypothesis import strategies as st
from PIL import Image

OTHER = {"Authorization": f"Bearer {os.environ['LENSQUEUE_OTHER_KEY']}"}
MINE = {"Authorization": f"Bearer {os.environ['LENSQUEUE_KEY']}"}
URL = os.environ["LENSQUEUE_URL"]
IDS = re.compile(r"(?<=[a-z]_)[0-9a-f]{32}(?![0-9a-f])")
NOBODYS = "0123456789abcdef" * 2
OF_JOBS = {
    "cancel_job",
    "draw_heatmap",
    "draw_overlay",
    "fetch_output",
    "fetch_thumbnail",
    "read_events",
    "read_item",
    "read_job",
    "read_request",
    "read_results",
    "read_scores",
}
OF_ITEMS = {"index": 0, "name": "patch"}
OF_SHAPES = {"invalid-request", "malformed-body"}
BEYOND_SCHEMAS = (
    "",  # fields that need each other
    "/images",  # none beside a rescore
    "/folder_labels",  # in the query beside an archive that is sent as it is, and beside no other
    "/items",  # of files of a set: as many as these are
    "/items/[0-9]+",  # one true label, or several
    "/input(/images|/texts)?",  # nor beside texts, or in two places; and no texts for a lens
    "/options/(outputs|layers|patch_layers|activation_layers|activation_tokens)",  # what the model has
    "/priority",  # by the number of items
    "/model",  # that of what is scored again
    "/filter",  # says anything at all
    "/low",  # below `high`
    "/format",  # too much for JSON
    "/page_token",  # one that a page before gave
    "/(layer|label|contrast)",  # one that the item has maps of
    "/labels/[0-9]+/vector",  # a direction, so not zeros alone
    "/Last-Event-ID",  # one that the stream gave
    "/from",  # not later than `to`
    "/limit",  # of pages: a file has none
    "/tag",  # each name once
)


def _picture(width: int, height: int, colour: tuple[int, int, int], kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, kind)
    return file.getvalue()


_side, _channel = st.integers(1, 32), st.integers(0, 255)
PICTURES = st.builds(
    _picture,
    _side,
    _side,
    st.tuples(_channel, _channel, _channel),
    st.sampled_from(["PNG", "JPEG", "GIF", "WEBP"]),
)

schemathesis.openapi.media_type("image/*", PICTURES)
schemathesis.openapi.media_type("application/octet-stream", PICTURES)
schemathesis.openapi.format("binary", PICTURES)


@schemathesis.hook
def before_call(ctx: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Give ids that are made up a job to mean; leave that job, this key and the only worker as they are."""
    name, path = _operation_id(case), case.path_parameters or {}
    if name in OF_JOBS and _is_made_up(case):
        path["job_id"] = os.environ["LENSQUEUE_JOB_ID"]
        path.update({known: value for known, value in OF_ITEMS.items() if known in path})
    # without them the rest of the run would find nothing
    for operation, parameter, spared in (
        ("revoke_key", "key_id", _own_key_id),
        ("delete_job", "job_id", _job_ids),
        ("drain_worker", "worker_id", _worker_ids),
    ):
        if name == operation and path.get(parameter) in spared():
            path[parameter] = f"{path[parameter].partition('_')[0]}_{NOBODYS}"


@schemathesis.hook
def after_call(ctx: Any, case: Any, response: Any) -> None:
    """Have a queue that was paused go on, for the jobs of the rest of the run."""
    if _operation_id(case) in {"pause_queue", "pause_own_queue"} and response.status_code < 300:
        url = response.request.url.replace("/pause", "/resume")
        requests.post(url, headers=MINE, timeout=60).raise_for_status()


@schemathesis.check
def foreign_ids_are_unknown(ctx: Any, response: Any, case: Any) -> None:
    """What a key reaches by an id, a key of another tenant is answered exactly as nobody's id."""
    path = response.request.url.partition("?")[0]
    if response.status_code >= 300 or case.method != "GET" or not IDS.search(path):
        return
    foreign = requests.get(path, headers=OTHER, timeout=60)
    unknown = requests.get(IDS.sub(NOBODYS, path), headers=OTHER, timeout=60)
    said = [_without_id(answer) for answer in (foreign, unknown)]
    assert foreign.status_code == 404, f"another tenant reads {path}: {foreign.status_code}"
    assert said[0] == said[1], f"another tenant can tell {path} from nobody's: {said}"


@schemathesis.check
def refusals_are_beyond_schemas(ctx: Any, response: Any, case: Any) -> None:
    """A request that fits its schema is refused only for what no schema can say."""
    fits = case.meta is not None and case.meta.generation.mode.is_positive
    if not fits or response.status_code != 422:
        return
    problem = response.json()
    pointers = [fault["pointer"] for fault in problem.get("errors", ())]
    beyond = bool(pointers) and all(
        any(re.fullmatch(each, pointer) for each in BEYOND_SCHEMAS) for pointer in pointers
    )
    assert beyond or problem["code"] not in OF_SHAPES, problem["detail"]


def _is_made_up(case: Any) -> bool:
    """Whether a case fits its schema and follows upon no other, so that its ids are nobody's."""
    meta = case.meta
    return meta is not None and meta.generation.mode.is_positive and meta.phase.name.value != "stateful"


def _operation_id(case: Any) -> str:
    return str(case.operation.definition.raw.get("operationId"))


@cache
def _own_key_id() -> frozenset[str]:
    keys = requests.get(f"{URL}/v1/api-keys?limit=200", headers=MINE, timeout=60).json()["items"]
    mine = os.environ["LENSQUEUE_KEY"]
    return frozenset(key["id"] for key in keys if mine.startswith(key["hint"]))


def _job_ids() -> frozenset[str]:
    return frozenset([os.environ["LENSQUEUE_JOB_ID"]])


@cache
def _worker_ids() -> frozenset[str]:
    workers = requests.get(f"{URL}/v1/workers", headers=MINE, timeout=60).json()["items"]
    return frozenset(worker["id"] for worker in workers)


def _without_id(answer: requests.Response) -> dict[str, Any]:
    said: dict[str, Any] = answer.json()
    del said["request_id"]
    return said
