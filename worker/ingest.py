"""A source of an image set, added chunk by chunk: each is a transaction that says how far it goes."""

import uuid
from contextlib import ExitStack
from typing import Any, BinaryIO

import structlog

from jobs.copying import copy_some
from jobs.errors import DomainError, EmptySourceError
from jobs.ingesting import OvertakenError, Phase, Progress, SourceForm, Target, add_chunk, read_progress
from jobs.leases import Unit
from jobs.s3 import connect, parse_prefix
from jobs.sources import open_source, remove_source
from jobs.unpacking import Bucket, Reading, chunks_of
from worker.analyst_runtime import Analyst
from worker.errors import PausedError
from worker.keeping import Keeper
from worker.passage import Passage

log = structlog.get_logger()


def ingest(analyst: Analyst, unit: Unit, passage: Passage) -> dict[str, Any]:
    """Add what is left of a source to its set; returns the counts in all, and where its items begin.

    Raises:
        DomainError: it is broken, or its set takes it no more; what was added before it was found stays.
        PausedError: there is more of it, for another turn.
    """
    (item,) = unit.items
    target = Target(
        unit.tenant,
        unit.job_id,
        unit.unit,
        uuid.UUID(unit.options["set_id"]),
        uuid.UUID(unit.options["version_id"]),
        unit.options["most_items"],
    )
    with analyst.sessions.begin() as session:
        progress = read_progress(session, target)
    if progress.phase is not Phase.DONE:
        _copy(analyst, target, passage)
        progress = _go_on(analyst, target, item, progress, passage)
    for name in ("stored", "beside"):
        if item[name] is not None:
            remove_source(analyst.blobs, unit.tenant, uuid.UUID(item[name]))
    if not any(progress.counts.values()):
        raise EmptySourceError
    return progress.payload


def _copy(analyst: Analyst, target: Target, passage: Passage) -> None:
    """Give the version what it begins with: submitting the job had not to wait for that.

    Raises:
        NotFoundError: the set was deleted.
        PausedError: there is more of it, for another turn.
    """
    done = False
    while not done:
        passage.step()
        with analyst.sessions.begin() as session:
            done = copy_some(session, target.tenant, target.set_id, begin=False)
        if not done and analyst.is_to_pause(passage):
            raise PausedError("it goes on in another turn")


def _go_on(
    analyst: Analyst, target: Target, item: dict[str, Any], progress: Progress, passage: Passage
) -> Progress:
    with ExitStack() as files:
        opened = {
            name: files.enter_context(open_source(analyst.blobs, target.tenant, uuid.UUID(item[name])))
            for name in ("stored", "beside")
            if item[name] is not None
        }
        source: BinaryIO | Bucket
        form = SourceForm(item["form"])
        if form is SourceForm.S3:
            prefix = parse_prefix(item["custom_id"], analyst.settings.s3_allowed)
            source = Bucket(connect(analyst.settings.s3_endpoint_url), prefix)
        else:
            source = opened["stored"]
        keeper = files.enter_context(Keeper(analyst.blobs, target.tenant))
        reading = Reading(
            form,
            source,
            keep=keeper.keep,
            step=passage.step,
            beside=opened.get("beside"),
            folder_labels=item["folder_labels"],
        )
        try:
            for chunk in chunks_of(reading, progress):
                keeper.wait()
                passage.step()
                with analyst.sessions.begin() as session:
                    progress = add_chunk(session, target, progress, chunk)
                log.info("ingest.added", **progress.counts)
                if progress.phase is not Phase.DONE and analyst.is_to_pause(passage):
                    raise PausedError("it goes on in another turn")
        except OvertakenError:
            raise PausedError("another worker has gone on with it") from None
        except DomainError as error:
            if before := progress.added + progress.failed:
                error.message += f" Items that were added before it was found: {before}."
            raise
    return progress
