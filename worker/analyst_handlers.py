"""What an analyst can do, by the type of a job: one function for each.

It is given a unit, which has one item, and returns what is stored as the result's payload. It says that it
goes on by `passage.step()`, at least every minute. A `DomainError` that it raises is the item's error; with
`PausedError` its work waits for its next turn, with what it has kept so far; after anything else it is tried
again.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from jobs.leases import Unit
from models.types import JobType
from worker.analyst_runtime import Analyst
from worker.ingest import ingest
from worker.pairs import compare_jobs, measure_drift
from worker.passage import Passage
from worker.summary import index_version, summarise_job

Handler = Callable[[Analyst, Unit, Passage], dict[str, Any]]

HANDLERS: Final[Mapping[JobType, Handler]] = {
    JobType.INGEST: ingest,
    JobType.SUMMARY: summarise_job,
    JobType.COMPARISON: compare_jobs,
    JobType.DRIFT: measure_drift,
    JobType.INDEX: index_version,
}
