"""From what people say to the body of a job."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from lensqueue_client.calls import Call, create_job, id_of, read_json
from lensqueue_client.pictures import Part, Picture, parts_of

if TYPE_CHECKING:
    from lensqueue_client.jobs import Job
    from lensqueue_client.sets import ImageSetVersion

Label = str | Mapping[str, Any]
"""A text, or an object with a name: prompts, the ends of a direction, or a vector."""
Labels = Sequence[Label] | Mapping[str, Any]
"""A list of them, or a single object; a text alone is refused: it may be meant as several, with commas."""
Layers = Literal["all"] | Mapping[str, int] | Sequence[int]
"""All of them, `{"every": 4}`, or a list."""


class JobOptions(TypedDict, total=False):
    """What every job may say; `idempotency_key` of yours lets you find the job again after a crash."""

    priority: Literal["interactive", "bulk"]
    tags: Mapping[str, str]
    webhook: str
    start_within_s: int
    run_timeout_s: int
    result_ttl_s: int
    idempotency_key: str


class LensOptions(JobOptions, total=False):
    """What a logit lens may say; the service's reference has what each means."""

    outputs: Sequence[str]
    template: str
    layers: Layers
    patch_layers: Layers
    patch_method: Literal["head", "value"]
    pixels: Literal["exact", "draft"]
    activation_layers: Layers
    activation_tokens: Literal["all"] | Sequence[int]
    softmax: bool
    uncalibrated: bool
    use_cache: bool


class EmbeddingOptions(JobOptions, total=False):
    """What an embedding may say."""

    normalize: bool
    pixels: Literal["exact", "draft"]
    use_cache: bool
    encoding: Literal["float", "base64"]


class RescoreOptions(JobOptions, total=False):
    """What scoring kept embeddings again may say."""

    template: str
    layers: Layers
    softmax: bool
    uncalibrated: bool


_OF_JOB = frozenset(JobOptions.__annotations__)


def lens(
    images: Iterable[Picture] | Picture, labels: Labels, model: str | None, options: LensOptions
) -> Call[Job]:
    """A logit lens."""
    return _submit("logit_lens", model, options, {"labels": _listed(labels)}, parts_of(images))


def lens_over(
    version: ImageSetVersion | str, labels: Labels, model: str | None, options: LensOptions
) -> Call[Job]:
    """A logit lens over all items of a sealed version."""
    said = {"labels": _listed(labels), "input": {"image_set_version": id_of(version)}}
    return _submit("logit_lens", model, options, said, [])


def embedding(
    images: Iterable[Picture] | Picture,
    texts: Sequence[str] | str,
    model: str | None,
    options: EmbeddingOptions,
) -> Call[Job]:
    """Embeddings of pictures or texts."""
    inputs = {"input": {"texts": [texts] if isinstance(texts, str) else list(texts)}} if texts else {}
    return _submit("embedding", model, options, inputs, parts_of(images))


def rescore(job: Job | str, labels: Labels, options: RescoreOptions) -> Call[Job]:
    """Other labels on the embeddings that a job kept."""
    said = {"labels": _listed(labels), "input": {"from_job": id_of(job)}}
    return _submit("rescore", None, options, said, [])


def raw(body: Mapping[str, Any], images: Iterable[Picture] | Picture, key: str | None) -> Call[Job]:
    """A body as it is, with these pictures."""
    return _with_parts(dict(body), parts_of(images), key)


def dry_run(body: Mapping[str, Any]) -> Call[dict[str, Any]]:
    """What a body would cost; nothing is made."""
    return Call("POST", "/v1/jobs", read_json, {"dry_run": "true"}, json=dict(body))


def _listed(labels: Labels) -> list[Label]:
    if isinstance(labels, str):
        raise TypeError(f"labels: pass a list, [{labels!r}] if that is a single one")
    return [labels] if isinstance(labels, Mapping) else list(labels)


def _submit(
    kind: str, model: str | None, options: Mapping[str, Any], said: Mapping[str, Any], parts: list[Part]
) -> Call[Job]:
    of_job = {name: options[name] for name in options if name in _OF_JOB}
    key = of_job.pop("idempotency_key", None)
    if "webhook" in of_job:
        of_job["webhook"] = {"endpoint_id": of_job["webhook"]}
    own = {name: options[name] for name in options if name not in _OF_JOB}
    body: dict[str, Any] = {"type": kind, **({"model": model} if model else {}), **said, **of_job}
    if own:
        body["options"] = own
    return _with_parts(body, parts, key)


def _with_parts(body: dict[str, Any], parts: list[Part], key: str | None) -> Call[Job]:
    named = [part for part in parts if part.image_id]
    if not named:
        return create_job(body, parts, key)
    if len(named) < len(parts):
        raise ValueError("give pictures or image ids, not both: upload() the pictures first")
    images = [
        {"image_id": part.image_id, **({"custom_id": part.name} if part.name else {})} for part in named
    ]
    return create_job({**body, "input": {**body.get("input", {}), "images": images}}, [], key)
