"""A whole job by the generated client: submit a picture, poll until it is done, fetch the results."""

import io
import os
import sys

from lensqueue_generated import AuthenticatedClient
from lensqueue_generated.api.jobs import read_job, submit_job
from lensqueue_generated.api.results import read_results
from lensqueue_generated.models import JobView, LensRequest, ResultsPage, SubmitJobFilesBody
from lensqueue_generated.types import File
from PIL import Image


def run_job(client: AuthenticatedClient, model: str) -> ResultsPage:
    """The first page of results of a lens over one picture."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64), (0, 200, 200)).save(file, "PNG")
    file.seek(0)
    job = LensRequest.from_dict({"type": "logit_lens", "model": model, "labels": ["a ring", "a heart"]})
    picture = File(payload=file, file_name="cyan.png", mime_type="image/png")
    shown = submit_job.sync(client=client, body=SubmitJobFilesBody(job=job, images=[picture]))
    assert isinstance(shown, JobView), shown
    while not shown.done:
        shown = read_job.sync(shown.id, client=client, prefer="wait=30")
        assert isinstance(shown, JobView), shown
    assert shown.state == "succeeded", shown
    page = read_results.sync(shown.id, client=client)
    assert isinstance(page, ResultsPage), page
    return page


if __name__ == "__main__":
    with AuthenticatedClient(os.environ["LENSQUEUE_URL"], os.environ["LENSQUEUE_KEY"], timeout=60) as known:
        (item,) = run_job(known, sys.argv[1]).items
    assert item.custom_id == "cyan.png", item
    assert item["top"]["label"] in {"a ring", "a heart"}, item
