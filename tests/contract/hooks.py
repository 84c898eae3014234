"""What Schemathesis is told of this service: pictures to send, and two checks of ours."""

import io
import os
import re
from typing import Any

import requests
import schemathesis
from hypothesis import strategies as st
from PIL import Image

OTHER = {"Authorization": f"Bearer {os.environ['LENSQUEUE_OTHER_KEY']}"}
IDS = re.compile(r"(?<=[a-z]_)[0-9a-f]{32}(?![0-9a-f])")
NOBODYS = "0123456789abcdef" * 2
OF_SHAPES = {"invalid-request", "malformed-body"}
BEYOND_SCHEMAS = {
    "/page_token",  # one that a page before gave
    "/layer",  # one that the item has maps of
    "/label",  # likewise
    "/contrast",  # likewise
    "/Last-Event-ID",  # one that the stream gave
    "/from",  # not later than `to`
    "/limit",  # of pages: a file has none
    "/tag",  # each name once
}


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
    pointers = {fault["pointer"] for fault in problem.get("errors", ())}
    assert problem["code"] not in OF_SHAPES or (pointers and pointers <= BEYOND_SCHEMAS), problem["detail"]


def _without_id(answer: requests.Response) -> dict[str, Any]:
    said: dict[str, Any] = answer.json()
    del said["request_id"]
    return said
