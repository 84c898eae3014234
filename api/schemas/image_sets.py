"""Image sets on the wire: what is said of them, their versions, and the items of these."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from api.schemas.ids import image_id, set_id, version_id
from api.schemas.jobs import ItemError
from api.schemas.pages import cut
from api.schemas.results import encode_token
from api.schemas.submissions import MAX_CUSTOM_ID, ImageId
from api.schemas.wire import GIVEN, Wire, storable
from jobs.adding import Added
from jobs.image_sets import Changes
from jobs.shards import MAX_TRUE_LABELS
from models.image_set import ImageSet, ImageSetItem, ImageSetVersion
from models.types import ItemState

MAX_NAME = 200
MAX_NOTES = 3_000
MAX_LABEL = 1_000
"""As a label's name may have in a job."""
MAX_SPLIT = 100
VERSIONS_SHOWN = 100


def distinct(labels: list[str]) -> list[str]:
    """The labels, each of which is there once."""
    if len(set(labels)) < len(labels):
        raise ValueError("names a label twice")
    return labels


Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME), AfterValidator(storable)]
Source = Annotated[
    str, Field(max_length=1_000, description="Where its pictures come from."), AfterValidator(storable)
]
Licence = Annotated[
    str, Field(max_length=200, description="What its pictures may be used for."), AfterValidator(storable)
]
Notes = Annotated[str, Field(max_length=MAX_NOTES, description="For people."), AfterValidator(storable)]
CustomId = Annotated[
    str,
    Field(min_length=1, max_length=MAX_CUSTOM_ID, description="Your name of the item; each names one."),
    AfterValidator(storable),
]
TrueLabel = Annotated[
    str,
    Field(min_length=1, max_length=MAX_LABEL, description="What the picture shows in truth, as one label."),
    AfterValidator(storable),
]
TrueLabels = Annotated[
    list[TrueLabel],
    Field(
        min_length=1,
        max_length=MAX_TRUE_LABELS,
        description="In the place of `true_label` where several may be true at once; each once.",
        json_schema_extra={"uniqueItems": True},
    ),
    AfterValidator(distinct),
]
Split = Annotated[
    str,
    Field(min_length=1, max_length=MAX_SPLIT, description="Which part of the set it is in: test, for one."),
    AfterValidator(storable),
]


class NewImageSet(Wire):
    """A named collection of pictures."""

    name: Name
    source: Source = ""
    licence: Licence = ""
    notes: Notes = ""


class ImageSetChanges(Wire):
    """What is to be different; what is absent stays as it is."""

    name: Annotated[Name | SkipJsonSchema[None], GIVEN] = None
    source: Annotated[Source | SkipJsonSchema[None], GIVEN] = None
    licence: Annotated[Licence | SkipJsonSchema[None], GIVEN] = None
    notes: Annotated[Notes | SkipJsonSchema[None], GIVEN] = None

    def changes(self) -> Changes:
        """The same, as the verbs take it."""
        return Changes(self.name, self.source, self.licence, self.notes)


class SentSetItem(Wire):
    """What is said of a picture that is sent with the request."""

    custom_id: CustomId | None = Field(None, description="The file's name, unless given.")
    true_label: TrueLabel | None = None
    true_labels: TrueLabels | None = None
    split: Split | None = None

    @model_validator(mode="after")
    def _one_or_several(self) -> Self:
        if self.true_label is not None and self.true_labels is not None:
            raise ValueError("give true_label or true_labels, not both")
        return self


class NamedSetItem(SentSetItem):
    """An item whose picture was sent to `/v1/images` before."""

    image_id: ImageId
    custom_id: CustomId | None = Field(None, description="Without one, an item is known by its index alone.")


class NewSetItems(Wire):
    """Items for the next places of a set, in this order."""

    items: list[NamedSetItem] = Field(min_length=1)


class SentSetItems(Wire):
    """What is said of the pictures of a multipart body, by their position."""

    items: list[SentSetItem]


class ImageSetVersionView(BaseModel):
    """One list of items of a set; sealed, it never changes again.

    The next one is there from its first new item on, with all items of the one before.
    """

    id: str
    set_id: str
    number: int
    items: int = Field(description="All of them, also those that are no picture.")
    failed: int = Field(description="Those that are no picture: no job computes them, none leaves them out.")
    labelled: int = Field(description="Those with a `true_label` or `true_labels`.")
    image_bytes: int = Field(description="Of all pictures, each as often as it is named.")
    manifest_sha256: str | None = Field(description="Of the bytes of its manifest; null while it is open.")
    created_at: datetime
    sealed_at: datetime | None = Field(description="Null while it is open: then it can be added to.")


class ImageSetView(BaseModel):
    """A named collection of this key's tenant's pictures."""

    id: str
    name: str
    source: str
    licence: str
    notes: str
    created_at: datetime
    last_version: ImageSetVersionView = Field(
        description="The one of the highest number: open, or sealed where nothing was added since."
    )


class WholeImageSetView(ImageSetView):
    """A set with its versions."""

    versions: list[ImageSetVersionView] = Field(
        description=f"The newest {VERSIONS_SHOWN}, the last one first; older ones are found by their number."
    )


class ImageSetsPage(BaseModel):
    """A page of sets, newest first."""

    items: list[ImageSetView]
    next_page_token: str | None


class AddedItems(BaseModel):
    """What was just added to a set."""

    version_id: str = Field(description="Of the open version that has them.")
    first: int = Field(description="The index of the first of them; the others follow it.")
    items: int
    failed: int = Field(description="Of these, so many are no picture: their errors lie at their places.")


class SetItemView(BaseModel):
    """What lies at one place of a version: a picture, or why there is none."""

    index: int
    custom_id: str | None
    state: ItemState
    image_id: str | None
    sha256: str | None
    image_bytes: int
    true_label: str | None
    true_labels: list[str] | None = Field(description="Null unless it was given several.")
    split: str | None
    error: ItemError | None


class SetItemsPage(BaseModel):
    """A page of items by index."""

    items: list[SetItemView]
    next_page_token: str | None = Field(description="Give it as `page_token`; null on the last page so far.")


def version(row: ImageSetVersion) -> ImageSetVersionView:
    """What the wire shows of a version."""
    return ImageSetVersionView(
        id=version_id(row.id),
        set_id=set_id(row.set_id),
        number=row.number,
        items=row.items,
        failed=row.failed,
        labelled=row.labelled,
        image_bytes=row.image_bytes,
        manifest_sha256=row.manifest_sha256,
        created_at=row.created_at,
        sealed_at=row.sealed_at,
    )


def view(row: ImageSet, last: ImageSetVersion) -> ImageSetView:
    """What the wire shows of a set in a list."""
    return ImageSetView(
        id=set_id(row.id),
        name=row.name,
        source=row.source,
        licence=row.licence,
        notes=row.notes,
        created_at=row.created_at,
        last_version=version(last),
    )


def whole(row: ImageSet, versions: Sequence[ImageSetVersion]) -> WholeImageSetView:
    """The same with its newest versions, the last one first."""
    return WholeImageSetView(**dict(view(row, versions[0])), versions=[version(each) for each in versions])


def page(rows: Sequence[ImageSet], last: Mapping[uuid.UUID, ImageSetVersion], limit: int) -> ImageSetsPage:
    """The page of one row more than it may hold, if there is one more; `last` versions by set."""
    shown, token = cut(rows, limit)
    return ImageSetsPage(items=[view(row, last[row.id]) for row in shown], next_page_token=token)


def added(done: Added, failed: int) -> AddedItems:
    """What the wire shows of items that were added."""
    return AddedItems(
        version_id=version_id(done.version.id), first=done.first, items=done.items, failed=failed
    )


def item(row: ImageSetItem) -> SetItemView:
    """What the wire shows of an item."""
    return SetItemView(
        index=row.index,
        custom_id=row.custom_id,
        state=ItemState.SUCCEEDED if row.error is None else ItemState.FAILED,
        image_id=None if row.image_id is None else image_id(row.image_id),
        sha256=row.sha256,
        image_bytes=row.image_bytes,
        true_label=row.true_label,
        true_labels=row.true_labels,
        split=row.split,
        error=None if row.error is None else ItemError(**row.error),
    )


def items(rows: Sequence[ImageSetItem], limit: int) -> SetItemsPage:
    """The page of one item more than it may hold, if there is one more."""
    shown = rows[:limit]
    token = encode_token(shown[-1].index) if len(rows) > limit else None
    return SetItemsPage(items=[item(row) for row in shown], next_page_token=token)
