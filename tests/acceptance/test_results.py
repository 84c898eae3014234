"""Results of a large job from a real process, and what it holds meanwhile."""

import pytest

from api.schemas.ids import job_id
from benchmarks.results import fill, read, watched
from models.types import JobType
from tests.acceptance.conftest import RunningService
from tests.ledger import TENANT

ITEMS = 16_000
MOST_MIB = 36
"""What a page, a row group and their buffers may take. The job's numbers take 47 MiB, and three times as much
as JSON."""


@pytest.mark.parametrize("name", ["ndjson", "parquet", "npz"])
def test_the_api_holds_no_more_for_a_larger_job(service: RunningService, name: str) -> None:
    few, many = (fill(service.sessions, TENANT, JobType.EMBEDDING, items) for items in (ITEMS // 4, ITEMS))
    # what a first export loads and its buffers stay
    read(service.client, f"/v1/jobs/{job_id(few)}/results?format={name}")
    with watched(service.pid("api")) as growth_bytes:
        read(service.client, f"/v1/jobs/{job_id(many)}/results?format={name}")
        assert growth_bytes() < MOST_MIB * 2**20
