"""A blob store that goes away under a running service: nothing is failed for it, and everybody says so."""

import httpx

from jobs.blobs import SENTINEL
from tests.chaos.conftest import Chaos


def test_no_item_fails_for_a_store_that_is_not_mounted(chaos: Chaos) -> None:
    chaos.add_worker()
    blobs = chaos.stack.folders.blobs
    mounted = blobs.with_name("mounted")
    blobs.rename(mounted)
    blobs.mkdir()
    try:
        job_id = chaos.order(["a text"])
        chaos.wait_until(lambda: chaos.state_of("worker") == "failed", 60)
        unready = chaos.client.get("/readyz")
        (worker,) = chaos.client.get("/v1/workers").json()["items"]
        assert list(blobs.iterdir()) == []
    finally:
        blobs.rmdir()
        mounted.rename(blobs)
    assert (unready.status_code, unready.json()["code"]) == (
        httpx.codes.SERVICE_UNAVAILABLE,
        "blob-store-missing",
    )
    assert worker["error"]["code"] == "blob-store-missing"
    assert str(blobs) in worker["error"]["message"]
    assert (blobs / SENTINEL).is_file()
    # its supervisor starts it again
    chaos.settle(60)
    assert chaos.job(job_id).state == "succeeded"
