"""Submitting a job: checked, then its rows in one transaction.

Blobs are stored before it, the workers are invited after it.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func
from sqlalchemy.orm import Session

from engine.catalog import Catalog, Checkpoint
from engine.errors import InvalidArgumentError, LabelError, LabelsIndistinctError
from engine.labels import count_prompts, read_labels
from engine.layers import resolve_layers, resolve_tokens
from engine.plan import TOKEN_OUTPUTS
from jobs import images
from jobs.errors import (
    DuplicateLabelsError,
    InvalidRequestError,
    NoInputError,
    NoLabelsError,
    OutputsTooLargeError,
    TooManyInputsError,
    TooManyLabelsError,
    UnknownImageError,
)
from jobs.images import Content
from jobs.naming import check_names
from jobs.pricing import stored_bytes
from jobs.storing import columns_of, described, store_at_once
from jobs.submission import ImageItem, Item, Submission, TextItem
from jobs.units import Admission, store_units
from models.image import Image
from models.job import Job
from models.types import JobType

MAX_POINTERS = 100
"""Of the pictures that are not known, so many are pointed at."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How large one inline job may be; `output_bytes` are those of the arrays that are stored of it."""

    items: int = 1_000
    labels: int = 10_000
    prompts: int = 20_000
    numbers: int = 1_000_000
    output_bytes: int = 16 * 2**30


def check(submission: Submission, catalog: Catalog, limits: Limits) -> None:
    """Refuse what can be known to be wrong before anything is stored.

    Raises:
        EngineError: the model is unknown, does not exist on the hub, or is not supported.
        DomainError: no items or too many; no labels, too many, too long, two alike, or one of no use; layers
            or tokens that the model has not; arrays that are too large.
    """
    checkpoint = catalog.find(submission.model)
    if submission.type is JobType.RESCORE:
        # whether its source can be rescored is found out later, see `jobs.submission.Source`
        _check_labels(submission.options["labels"], checkpoint, limits)
        return
    if not submission.size:
        raise NoInputError(pointer="/input")
    if submission.source is None and submission.size > limits.items:
        raise TooManyInputsError(
            f"{len(submission.items)} items; one inline job takes {limits.items} at most: send several jobs.",
            pointer="/input",
        )
    if submission.type is JobType.LOGIT_LENS:
        _check_items(submission.items)
        _check_labels(submission.options["labels"], checkpoint, limits)
        check_names(submission.options, checkpoint)
        _check_layers(submission.options, checkpoint)
        _check_outputs(submission, checkpoint, limits)


def check_images(session: Session, tenant: str, items: Sequence[Item]) -> dict[uuid.UUID, Image]:
    """The images that items name by id, held until the commit.

    Raises:
        UnknownImageError: some are not there; it points at each.
    """
    named = [item.source if isinstance(item, ImageItem) else None for item in items]
    held = images.hold(session, tenant, (source for source in named if isinstance(source, uuid.UUID)))
    unknown = [
        f"/input/images/{index}/image_id"
        for index, source in enumerate(named)
        if isinstance(source, uuid.UUID) and source not in held
    ]
    if unknown:
        raise UnknownImageError(pointers=unknown[:MAX_POINTERS])
    return held


def submit(
    session: Session,
    tenant: str,
    submission: Submission,
    admission: Admission,
    *,
    job_id: uuid.UUID | None = None,
) -> Job:
    """Store an admitted submission as a queued job; the caller commits, then invites the workers.

    Raises:
        UnknownImageError: an id names no image of the tenant.
        ResultsExpiredError: results of its source were removed meanwhile.
    """
    if stored := store_at_once(session, tenant, submission, admission, job_id=job_id):
        return stored.job
    terms = submission.terms
    rows = _hold_images(session, tenant, submission.items)
    job = Job(
        **columns_of(tenant, submission, admission),
        id=job_id,
        input_bytes=sum(image.image_bytes for image in rows.values()),
        start_by=None if terms.start_within is None else func.now() + terms.start_within,
        run_timeout=terms.run_timeout,
        result_ttl=terms.result_ttl,
    )
    session.add(job)
    session.flush()
    if submission.source is not None:
        submission.source.store(session, job, admission)
    else:
        filled = (described(index, item, rows) for index, item in enumerate(submission.items))
        store_units(session, job, filled, admission)
    return job


def _check_items(items: Sequence[Item]) -> None:
    if any(isinstance(item, TextItem) for item in items):
        raise InvalidRequestError("A logit lens reads images: give `input.images`.", pointer="/input/texts")


def _check_labels(labels: Sequence[str | Mapping[str, Any]], checkpoint: Checkpoint, limits: Limits) -> None:
    if not labels:
        raise NoLabelsError(pointer="/labels")
    _check_count("labels", len(labels), limits.labels)
    try:
        read = read_labels(labels)
    except (InvalidArgumentError, LabelError) as error:
        kind = DuplicateLabelsError if isinstance(error, LabelsIndistinctError) else InvalidRequestError
        raise kind(str(error).partition(": ")[2], pointer=_pointer(error.path)) from None
    _check_count("prompts of labels", count_prompts(labels), limits.prompts)
    vectors = {index: len(label.vector) for index, label in enumerate(read) if label.vector is not None}
    _check_count("numbers in vectors", sum(vectors.values()), limits.numbers)
    if checkpoint.dimensions is None:
        # a folder that only the workers can read: they will say
        return
    width = checkpoint.dimensions.hidden_size
    for index, numbers in vectors.items():
        if numbers != width:
            raise InvalidRequestError(
                f"The vector has {numbers} numbers; embeddings of {checkpoint.name} have {width}.",
                pointer=_pointer((index, "vector")),
            )


def _check_count(what: str, count: int, most: int) -> None:
    if count > most:
        raise TooManyLabelsError(
            f"{count} {what}; one job takes {most} at most: split the labels over several jobs.",
            pointer="/labels",
        )


def _pointer(path: Sequence[str | int]) -> str:
    return "/labels" + "".join(f"/{part}" for part in path)


def _check_layers(options: dict[str, Any], checkpoint: Checkpoint) -> None:
    outputs = set(options["outputs"])
    if options["patch_layers"] is not None and not outputs & set(TOKEN_OUTPUTS):
        raise InvalidRequestError(
            "`patch_layers` belongs to what is read of patches: add one of"
            f" {', '.join(TOKEN_OUTPUTS)} to `outputs`.",
            pointer="/options/patch_layers",
        )
    for name in ("activation_layers", "activation_tokens"):
        if options.get(name) is not None and "activations" not in outputs:
            raise InvalidRequestError(
                f'`{name}` belongs to the activations: add "activations" to `outputs`.',
                pointer=f"/options/{name}",
            )
    if checkpoint.dimensions is None:
        # a folder that only the workers can read: they will say
        return
    sizes = checkpoint.dimensions
    try:
        for name in ("layers", "patch_layers", "activation_layers"):
            if options.get(name) is not None:
                resolve_layers(options[name], sizes.layers, name)
        if options.get("activation_tokens") is not None:
            resolve_tokens(options["activation_tokens"], sizes.patch_tokens)
    except InvalidArgumentError as error:
        message = str(error).partition(": ")[2]
        raise InvalidRequestError(message, pointer=f"/options/{error.argument}") from None


def _check_outputs(submission: Submission, checkpoint: Checkpoint, limits: Limits) -> None:
    items = submission.size
    stored = stored_bytes(submission.type, submission.options, checkpoint)
    needed = items * sum(stored.values())
    if needed <= limits.output_bytes:
        return
    largest = sorted(stored.items(), key=lambda each: -each[1])
    shares = ", ".join(f"{name} {size}" for name, size in largest)
    raise OutputsTooLargeError(
        f"These outputs would take about {needed} bytes, {sum(stored.values())} for each of {items} items"
        f" ({shares}), and one job may keep {limits.output_bytes}: ask for fewer items, outputs or labels, or"
        " fewer `patch_layers`, `activation_layers` or `activation_tokens`.",
        pointer="/options/outputs",
    )


def _hold_images(session: Session, tenant: str, items: Sequence[Item]) -> dict[Content | uuid.UUID, Image]:
    contents = {
        item.source for item in items if isinstance(item, ImageItem) and isinstance(item.source, Content)
    }
    named = check_images(session, tenant, items)
    kept = images.keep(session, tenant, contents)
    rows: dict[Content | uuid.UUID, Image] = {content: kept[content.sha256].image for content in contents}
    rows.update(named.items())
    return rows
