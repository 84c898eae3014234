"""What is submitted: the body of a job, checked field by field."""

from itertools import combinations
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    Strict,
    TypeAdapter,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from api.schemas.labels import Label, Prompt
from api.schemas.wire import GIVEN, WHOLE, Wire, storable, whole
from engine.catalog import DEFAULT_TEMPLATE
from engine.plan import OUTPUTS
from jobs.admission import INTERACTIVE_ITEMS
from jobs.egress import MAX_URL
from models.types import Priority

MAX_TEXT = 10_000
MAX_CUSTOM_ID = 500
MAX_MODEL_NAME = 300
MAX_IMAGE_ID = 100
MAX_TAGS = 16
MAX_JOB_ID = 100
MAX_LAYERS = 1_000
"""No checkpoint has so many."""
MAX_TOKENS = 10_000
"""Nor so many patches."""
MAX_ENDPOINT_ID = 100
MAX_WAIT_S = 30 * 86_400
MAX_KEPT_S = 10 * 366 * 86_400


def _template(value: str) -> str:
    if value.count("{}") != 1:
        raise ValueError("a template holds {} exactly once, where the label goes")
    return value


def _outputs(value: list[str]) -> list[str]:
    if len(set(value)) < len(value):
        raise ValueError("an output is named twice")
    # in one order: single items that ask for the same may share a forward pass
    return [output for output in OUTPUTS if output == "pooled" or output in value]


def _layers(value: Any) -> Any:
    # one rule for the three shapes: a union would answer with the faults of each
    if value == "all":
        return value
    if isinstance(value, dict) and set(value) == {"every"} and _is_layer(value["every"]) and value["every"]:
        return {"every": whole(value["every"])}
    if isinstance(value, list) and 1 <= len(value) <= MAX_LAYERS and all(map(_is_layer, value)):
        return [whole(layer) for layer in value]
    raise ValueError('give "all", {"every": k} with k from 1, or a list of layers like [0, 6, 12]')


def _tokens(value: Any) -> Any:
    if value == "all":
        return value
    if isinstance(value, list) and 1 <= len(value) <= MAX_TOKENS and all(map(_is_token, value)):
        return [whole(token) for token in value]
    raise ValueError('give "all" or a list of tokens like [0, 364], row by row from the top left')


def _few_tags(value: Any) -> Any:
    # before any of them is looked at: every wrong one would take a kilobyte
    if isinstance(value, dict) and len(value) > MAX_TAGS:
        raise ValueError(f"{len(value)} tags; a job has {MAX_TAGS} at most")
    return value


def _base64(schema: dict[str, Any]) -> None:
    schema["pattern"] = "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
    _without_default(schema)


def _without_default(schema: dict[str, Any]) -> None:
    # null is what a field has that was not sent: to be told apart from it, and no value to send
    schema.pop("default", None)


def _is_layer(value: Any) -> bool:
    return isinstance(whole(value), int) and not isinstance(value, bool) and 0 <= value <= MAX_LAYERS


def _is_token(value: Any) -> bool:
    return isinstance(whole(value), int) and not isinstance(value, bool) and 0 <= value < MAX_TOKENS


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
JobId = Annotated[str, Field(max_length=MAX_JOB_ID)]
Wait = Annotated[int, Field(ge=1, le=MAX_WAIT_S), WHOLE]
Kept = Annotated[int, Field(ge=1, le=MAX_KEPT_S), WHOLE]
Template = Annotated[
    Prompt,
    AfterValidator(_template),
    Field(json_schema_extra={"pattern": r"^(?:(?!\{\})[\s\S])*\{\}(?:(?!\{\})[\s\S])*$"}),
]
Output = Literal[
    "pooled", "patch", "probe_attention", "contribution", "token_norms", "embeddings", "activations"
]
Outputs = Annotated[
    list[Output],
    Field(
        min_length=1,
        max_length=len(OUTPUTS),
        fail_fast=True,
        json_schema_extra={"uniqueItems": True},
    ),
    AfterValidator(_outputs),
]
Tokens = Annotated[
    str | list[int],
    PlainValidator(_tokens),
    WithJsonSchema(
        {
            "title": "Tokens",
            "description": "All of them, or a list; token n is the patch of row n // cols, column n % cols.",
            "anyOf": [
                {"const": "all"},
                {
                    "type": "array",
                    "items": {"type": "integer", "minimum": 0, "maximum": MAX_TOKENS - 1},
                    "minItems": 1,
                    "maxItems": MAX_TOKENS,
                },
            ],
        }
    ),
]
Layers = Annotated[
    str | dict[str, int] | list[int],
    PlainValidator(_layers),
    WithJsonSchema(
        {
            "title": "Layers",
            "description": "All 0..L, every k-th from k on and L, or a list of layers; 0 is the embeddings.",
            "anyOf": [
                {"const": "all"},
                {
                    "type": "object",
                    "properties": {"every": {"type": "integer", "minimum": 1, "maximum": MAX_LAYERS}},
                    "required": ["every"],
                    "additionalProperties": False,
                },
                {
                    "type": "array",
                    "items": {"type": "integer", "minimum": 0, "maximum": MAX_LAYERS},
                    "minItems": 1,
                    "maxItems": MAX_LAYERS,
                },
            ],
        }
    ),
]
Pixels = Annotated[
    Literal["exact", "draft"],
    Field(
        description="`exact`: bit for bit what the checkpoint's own processor reads. `draft`: large JPEGs are"
        " decoded at a fraction of their size, several times faster and some levels of 255 off."
    ),
]


_SOURCES = ("data", "image_id", "url")


def _has(*names: str) -> dict[str, Any]:
    return {"required": list(names), "properties": {name: {} for name in names}}


# said by `not`: generated clients would take alternatives for three types without fields
_NOT_ONE_SOURCE: dict[str, Any] = {
    "anyOf": [
        *(_has(*pair) for pair in combinations(_SOURCES, 2)),
        {"not": {"anyOf": [_has(source) for source in _SOURCES]}},
    ]
}


class ImageInput(Wire):
    """A picture, inline, by its id or by its URL: exactly one of these."""

    model_config = ConfigDict(json_schema_extra={"not": _NOT_ONE_SOURCE})

    data: Annotated[str | SkipJsonSchema[None], GIVEN] = Field(
        None, description="The file's bytes in base64.", json_schema_extra=_base64
    )
    image_id: Annotated[ImageId | SkipJsonSchema[None], GIVEN] = Field(
        None,
        description="The id of an image that was sent to `/v1/images`, or named by an earlier result.",
        json_schema_extra=_without_default,
    )
    url: Annotated[Url | SkipJsonSchema[None], GIVEN] = Field(
        None,
        description="Where the service fetches it at once, if its operator allows that: over http or https,"
        " from a public address. A picture that cannot be fetched is an item that fails.",
        json_schema_extra=_without_default,
    )
    custom_id: CustomId | None = Field(
        None, description="Comes back with the item's result; of a picture by URL, the URL unless given."
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(source is not None for source in (self.data, self.image_id, self.url)) != 1:
            raise ValueError("give exactly one of data, image_id and url")
        return self


class JobInput(Wire):
    """What a job works on: images or texts, not both."""

    model_config = ConfigDict(
        json_schema_extra={
            "not": {
                "required": ["images", "texts"],
                "properties": {name: {"minItems": 1} for name in ("images", "texts")},
            }
        }
    )

    images: list[ImageInput] = Field(default_factory=list)
    texts: list[Text] = Field(default_factory=list)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.images and self.texts:
            raise ValueError("give images or texts, not both")
        return self


class RescoreInput(Wire):
    """What a rescore reads: the embeddings of all items of a job that succeeded."""

    from_job: JobId = Field(
        description="The id of a `logit_lens` that has ended, with `embeddings` among its `outputs`."
    )


class LensOptions(Wire):
    """How a logit lens reads the layers.

    A lens asks what the final head reads at a layer; low scores do not show absence, no lens is causal
    evidence.
    """

    template: Template = Field(DEFAULT_TEMPLATE, description="Turns a label into a prompt; holds {} once.")
    outputs: Outputs = Field(
        ["pooled"],
        description="The pooled lens is always given: it says which label is on top. Of patches, at"
        " `patch_layers`: `patch` (each alone through the head), `probe_attention` (what each head of the"
        " pooling attention takes of it), `contribution` (its share of the pooled score), `token_norms`."
        " `embeddings` are what the pooled lens scores, at `layers`; `activations` the hidden states at"
        " `activation_layers`.",
    )
    layers: Layers = Field("all", description="Of the pooled lens.")
    patch_layers: Layers | None = Field(
        None, description="Of all that is read of patches; null is the last layer only."
    )
    patch_method: Literal["head", "value"] = Field(
        "head",
        description="Each patch through the whole head; or `value`, without its MLP: far cheaper, to compare"
        " patches with each other only.",
    )
    pixels: Pixels = "exact"
    activation_layers: Layers | None = Field(
        None, description="Of the activations; null is the last layer only, as it is before the final norm."
    )
    activation_tokens: Tokens | None = Field(None, description="Of the activations; null is all of them.")
    softmax: bool = Field(False, description="Give the softmax of the logits across all labels too.")
    uncalibrated: bool = Field(
        False,
        description="Give logits, by the scale and bias that were fitted to the last layer, of all `layers`.",
    )


class EmbeddingOptions(Wire):
    """How embeddings are returned."""

    normalize: bool = Field(True, description="L2-normalise each embedding.")
    pixels: Pixels = "exact"


class WebhookTarget(Wire):
    """Where the end of a job is told."""

    endpoint_id: Annotated[str, Field(max_length=MAX_ENDPOINT_ID)] = Field(
        description="A webhook endpoint of yours that is enabled: `whe_...`."
    )


class RescoreOptions(Wire):
    """How kept embeddings are scored, at every layer that was kept."""

    template: Template = Field(DEFAULT_TEMPLATE, description="Turns a label into a prompt; holds {} once.")
    softmax: bool = Field(False, description="Give the softmax of the logits across all labels too.")
    uncalibrated: bool = Field(
        False, description="Give logits, by the scale and bias that were fitted to the last layer, of all."
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
