"""True labels that are none of a job's labels: as likely misspelt as meant, and not to be passed over."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import array
from sqlalchemy.orm import Session, sessionmaker

from models.image_set import ImageSetItem

MOST_NAMED: Final = 5


def read_strange(
    sessions: sessionmaker[Session], version_id: uuid.UUID, labels: Sequence[str]
) -> dict[str, int]:
    """How many items of a version have each true label that is none of these, the most frequent first."""
    several = func.coalesce(ImageSetItem.true_labels, array([ImageSetItem.true_label]))
    truths = (
        select(func.unnest(several).label("truth")).where(ImageSetItem.version_id == version_id).subquery()
    )
    counts, known = func.count(), set(labels)
    with sessions() as session:
        rows = session.execute(
            select(truths.c.truth, counts)
            .where(truths.c.truth.is_not(None))
            .group_by(truths.c.truth)
            .order_by(counts.desc(), truths.c.truth)
        ).all()
        return {label: count for label, count in rows if label is not None and label not in known}


def told(strange: Mapping[str, int]) -> str:
    """The first of them, as a warning names them."""
    named = ", ".join(f"{label!r} ({count:,})" for label, count in list(strange.items())[:MOST_NAMED])
    return f"{named} and {len(strange) - MOST_NAMED:,} more" if len(strange) > MOST_NAMED else named
