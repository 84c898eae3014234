"""Other labels over embeddings that a lens kept: the job they come from, and the items made of its own."""

import uuid
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Integer, Uuid, bindparam, func, select, text
from sqlalchemy.orm import Session

from engine.catalog import Catalog
from engine.errors import InvalidArgumentError
from engine.layers import resolve_layers
from jobs.errors import (
    EmbeddingsNotKeptError,
    NoInputError,
    NotEndedError,
    ResultsExpiredError,
    UnknownJobError,
)
from jobs.units import Admission, store_work
from models.job import Job
from models.types import JobType

POINTER: Final = "/input/from_job"
OUTPUT: Final = "embeddings"
TOLD: Final = ("weights_sha256", "dtype", "runtime", "device", "pixel_path")
"""What is taken over of the provenance of kept embeddings: other numbers would be those of nobody."""

STORE_INPUTS = text("""
    WITH kept AS (
        SELECT row_number() OVER (ORDER BY results.index) - 1 AS index, results.index AS source_index,
               results.item, payload.*
        -- once for all of its parts: a payload is unpacked whole for each that is asked of it
        FROM results, jsonb_to_record(results.payload) AS payload (
            width integer, height integer, frame jsonb, embeddings jsonb
        )
        WHERE results.job_id = :source_id AND results.state = 'succeeded'
    ), stored AS (
        INSERT INTO job_inputs (job_id, unit, items)
        SELECT :job_id, index / :unit_items, jsonb_agg(
            jsonb_build_object(
                'index', index, 'kind', 'image', 'source_index', source_index,
                'custom_id', item -> 'custom_id', 'image_id', item -> 'image_id',
                'width', width, 'height', height, 'frame', frame, 'stored', embeddings -> 'stored'
            ) ORDER BY index
        )
        FROM kept GROUP BY index / :unit_items
        RETURNING jsonb_array_length(items) AS items
    )
    SELECT coalesce(sum(items), 0) FROM stored
""").bindparams(
    bindparam("job_id", type_=Uuid()),
    bindparam("source_id", type_=Uuid()),
    bindparam("unit_items", type_=Integer()),
)
"""The items of a job that succeeded, in the order of their indexes, as the inputs of another one.

They are made where they lie, since there may be as many as a tenant may have waiting. They name no pictures
in `image_ids`: none is read, so none has to be kept for them.
"""


@dataclass(frozen=True, slots=True)
class KeptEmbeddings:
    """The job whose embeddings are scored, `items` of which succeeded.

    `outputs` and `layers` are those that it asked for, `computed` is what tells of the numbers it kept.
    """

    job_id: uuid.UUID
    type: str
    model: str
    items: int
    has_ended: bool
    is_removed: bool
    outputs: list[str]
    layers: Any
    computed: dict[str, Any]

    @property
    def options(self) -> dict[str, Any]:
        """What the job that scores them has to know of it."""
        return {"layers": self.layers, "source": {"job_id": str(self.job_id), **self.computed}}

    @property
    def input_bytes(self) -> int:
        """None: no picture is read."""
        return 0

    @property
    def version_id(self) -> None:
        """That of no image set."""
        return None

    def check(self, catalog: Catalog) -> None:
        """Refuse a job that has not, or no longer, what a rescore needs.

        Raises:
            ResultsExpiredError: its results were removed, or it was.
            EmbeddingsNotKeptError: it did not ask for embeddings, or not for those of the last layer.
            NotEndedError: it still runs.
            NoInputError: nothing of it succeeded.
        """
        if self.is_removed:
            raise ResultsExpiredError(
                "The embeddings of that job were removed with its results.", pointer=POINTER
            )
        if self.type != JobType.LOGIT_LENS or OUTPUT not in self.outputs:
            raise EmbeddingsNotKeptError(
                "That job kept no embeddings: submit a `logit_lens` whose options have"
                ' `"outputs": ["pooled", "embeddings"]`, and rescore that.',
                pointer=POINTER,
            )
        _check_layers(self, catalog)
        if not self.has_ended:
            raise NotEndedError("That job has not ended yet: poll it until it is done.", pointer=POINTER)
        if self.items == 0:
            raise NoInputError("Nothing of that job succeeded: there is nothing to score.", pointer=POINTER)

    def store(self, session: Session, job: Job, admission: Admission) -> None:
        """Store the items of the source as those of the job, and its waiting work.

        Raises:
            ResultsExpiredError: results were removed since the source was found.
        """
        stored = session.scalar(
            STORE_INPUTS, {"job_id": job.id, "source_id": self.job_id, "unit_items": admission.unit_items}
        )
        if stored != self.items:
            raise ResultsExpiredError("The results of that job are being removed.", pointer=POINTER)
        store_work(session, job, admission)


def find_source(session: Session, tenant: str, job_id: uuid.UUID) -> KeptEmbeddings:
    """The tenant's job of this id, whether or not it can be rescored.

    Raises:
        UnknownJobError: there is none, or it is another tenant's.
    """
    over = Job.expires_at.is_not(None) & (Job.expires_at < func.now())
    row = session.execute(
        select(
            Job.type,
            Job.model,
            Job.succeeded,
            Job.ended_at,
            over | Job.results_removed_at.is_not(None) | Job.deleted_at.is_not(None),
            Job.options["outputs"],
            Job.options["layers"],
            Job.provenance,
        ).where(Job.id == job_id, Job.tenant == tenant)
    ).one_or_none()
    if row is None:
        raise UnknownJobError(pointer=POINTER)
    type_, model, succeeded, ended_at, is_removed, outputs, layers, provenance = row
    return KeptEmbeddings(
        job_id=job_id,
        type=type_,
        model=model,
        items=succeeded,
        has_ended=ended_at is not None,
        is_removed=is_removed,
        outputs=outputs or [],
        layers=layers,
        computed={name: (provenance or {}).get(name) for name in TOLD},
    )


def _check_layers(source: KeptEmbeddings, catalog: Catalog) -> None:
    """Refuse layers without the last, which says what is on top."""
    sizes = catalog.find(source.model).dimensions
    if sizes is None:
        # a folder that only the workers can read: they will say
        return
    try:
        kept = resolve_layers(source.layers, sizes.layers)
    except InvalidArgumentError:
        # a folder that was another one then
        kept = ()
    if sizes.layers not in kept:
        raise EmbeddingsNotKeptError(
            f"That job kept embeddings of other layers, but not of the last, {sizes.layers}, which says what"
            " is on top: submit it with that among its `layers`.",
            pointer=POINTER,
        )
