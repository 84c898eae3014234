"""What is submitted: the body of a job, checked field by field."""

from itertools import combinations
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    TypeAdapter,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from api.schemas.labels import Label
from api.schemas.options import EmbeddingOptions, LensOptions, RescoreOptions
from api.schemas.wire import GIVEN, WHOLE, Wire, not_one_of, storable, without_default
from jobs.admission import INTERACTIVE_ITEMS
from jobs.egress import MAX_URL
from models.types import Priority

MAX_TEXT = 10_000
MAX_CUSTOM_ID = 500
MAX_MODEL_NAME = 300
MAX_IMAGE_ID = 100
MAX_TAGS = 16
MAX_JOB_ID = 100
MAX_ENDPOINT_ID = 100
MAX_WAIT_S = 30 * 86_400
MAX_KEPT_S = 10 * 366 * 86_400


def _few_tags(value: Any) -> Any:
    # before any of them is looked at: every wrong one would take a kilobyte
    if isinstance(value, dict) and len(value) > MAX_TAGS:
        raise ValueError(f"{len(value)} tags; a job has {MAX_TAGS} at most")
    return value


def _base64(schema: dict[str, Any]) -> None:
    schema["pattern"] = "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
    without_default(schema)


def sanitised(filename: str | None) -> str | None:
    """A file's name as a custom_id: what cannot be stored is dropped, what is too long is cut."""
    if not filename:
        return None
    kept = filename.replace("\x00", "").encode("utf-8", "ignore").decode()
    return kept[:MAX_CUSTOM_ID] or None


Text = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(storable)]
CustomId = Annotated[str, Field(max_length=MAX_CUSTOM_ID), AfterValidator(storable)]
ModelName = Annotated[str, Field(max_length=MAX_MODEL_NAME), AfterValidator(storable)]
ImageId = Annotated[str, Field(max_length=MAX_IMAGE_ID)]
TagKey = Annotated[str, Field(min_length=1, max_length=64, pattern="^[^:]+$"), AfterValidator(storable)]
TagValue = Annotated[str, Field(max_length=256), AfterValidator(storable)]
Tags = Annotated[
    dict[TagKey, TagValue],
    BeforeValidator(_few_tags),
    Field(max_length=MAX_TAGS),
    # patterns of names alone would leave all other names to have any value
    WithJsonSchema(
        {
            "type": "object",
            "propertyNames": {"minLength": 1, "maxLength": 64, "pattern": "^[^:]+$"},
            "additionalProperties": {"type": "string", "maxLength": 256},
            "maxProperties": MAX_TAGS,
        }
    ),
]
Url = Annotated[str, Field(min_length=1, max_length=MAX_URL), AfterValidator(storable)]
VersionId = Annotated[str, Field(max_length=MAX_JOB_ID)]
JobId = Annotated[str, Field(max_length=MAX_JOB_ID)]
Wait = Annotated[int, Field(ge=1, le=MAX_WAIT_S), WHOLE]
Kept = Annotated[int, Field(ge=1, le=MAX_KEPT_S), WHOLE]
_SOURCES = ("data", "image_id", "url")


class ImageInput(Wire):
    """A picture, inline, by its id or by its URL: exactly one of these."""

    model_config = ConfigDict(json_schema_extra={"not": not_one_of(*_SOURCES)})

    data: Annotated[str | SkipJsonSchema[None], GIVEN] = Field(
        None, description="The file's bytes in base64.", json_schema_extra=_base64
    )
    image_id: Annotated[ImageId | SkipJsonSchema[None], GIVEN] = Field(
        None,
        description="The id of an image that was sent to `/v1/images`, or named by an earlier result.",
        json_schema_extra=without_default,
    )
    url: Annotated[Url | SkipJsonSchema[None], GIVEN] = Field(
        None,
        description="Where the service fetches it at once, if its operator allows that: over http or https,"
        " from a public address. A picture that cannot be fetched is an item that fails.",
        json_schema_extra=without_default,
    )
    custom_id: CustomId | None = Field(
        None, description="Comes back with the item's result; of a picture by URL, the URL unless given."
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(source is not None for source in (self.data, self.image_id, self.url)) != 1:
            raise ValueError("give exactly one of data, image_id and url")
        return self


_WORKS_ON = ("images", "texts", "image_set_version")


def _both(*names: str) -> dict[str, Any]:
    filled: dict[str, Any] = {"images": {"minItems": 1}, "texts": {"minItems": 1}, "image_set_version": {}}
    return {"required": list(names), "properties": {name: filled[name] for name in names}}


class JobInput(Wire):
    """What a job works on: images, texts, or a version of an image set; one of them."""

    model_config = ConfigDict(
        json_schema_extra={"not": {"anyOf": [_both(*pair) for pair in combinations(_WORKS_ON, 2)]}}
    )

    images: list[ImageInput] = Field(default_factory=list)
    texts: list[Text] = Field(default_factory=list)
    image_set_version: Annotated[VersionId | SkipJsonSchema[None], GIVEN] = Field(
        None,
        description="A sealed version of an image set, `isv_...`: the job works on all of its items.",
        json_schema_extra=without_default,
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.images and self.texts:
            raise ValueError("give images or texts, not both")
        if self.image_set_version is not None and (self.images or self.texts):
            raise ValueError("give image_set_version alone, without images or texts")
        return self


class RescoreInput(Wire):
    """What a rescore reads: the embeddings of all items of a job that succeeded."""

    from_job: JobId = Field(
        description="The id of a `logit_lens` that has ended, with `embeddings` among its `outputs`."
    )


class WebhookTarget(Wire):
    """Where the end of a job is told."""

    endpoint_id: Annotated[str, Field(max_length=MAX_ENDPOINT_ID)] = Field(
        description="A webhook endpoint of yours that is enabled: `whe_...`."
    )


class Request(Wire):
    """What every job says, whatever its type."""

    model: ModelName | None = Field(
        None, description="A checkpoint's name; the service's default when absent."
    )
    priority: Annotated[Priority, Strict(False)] | None = Field(
        None,
        description=f"By default a job of up to {INTERACTIVE_ITEMS} items is interactive, a larger one bulk.",
    )
    start_within_s: Wait | None = Field(
        None, description="Not begun by then, it expires; by default it waits for ever."
    )
    run_timeout_s: Wait | None = Field(
        None, description="So long after it was begun, what still waits of it is dropped."
    )
    result_ttl_s: Kept | None = Field(
        None, description="So long after it ended its results are removed; the job itself stays."
    )
    tags: Tags = Field(
        default_factory=dict,
        description="Names and values of your own, by which jobs are found again: `?tag=name:value`. A name"
        " has no colon.",
    )
    webhook: WebhookTarget | None = Field(
        None, description="Where its end is told, however it ends; by default nowhere."
    )


class LensRequest(Request):
    """A logit lens: every layer of every picture, scored against the labels."""

    type: Literal["logit_lens"]
    input: JobInput = Field(default_factory=JobInput)
    labels: list[Label] = Field(
        default_factory=list, description="Results tell them by their names, which differ."
    )
    options: LensOptions = Field(default_factory=LensOptions)
    interventions: list[dict[str, Any]] = Field(
        default_factory=list, max_length=0, fail_fast=True, description="Reserved; must be empty."
    )


class EmbeddingRequest(Request):
    """Embeddings of images or texts."""

    type: Literal["embedding"]
    input: JobInput = Field(default_factory=JobInput)
    options: EmbeddingOptions = Field(default_factory=EmbeddingOptions)


class RescoreRequest(Request):
    """Other labels over the layer embeddings that a lens kept: no picture is read, no pass is made.

    Its model is that of the job it names; `model` may be left out.
    """

    type: Literal["rescore"]
    input: RescoreInput
    labels: list[Label] = Field(
        default_factory=list, description="Results tell them by their names, which differ."
    )
    options: RescoreOptions = Field(default_factory=RescoreOptions)


AnyRequest = LensRequest | EmbeddingRequest | RescoreRequest
JobRequest = Annotated[AnyRequest, Field(discriminator="type")]
JOB_REQUEST: TypeAdapter[AnyRequest] = TypeAdapter(JobRequest)
