"""What a job is estimated to cost: in proportion, and near what can be counted by hand."""

from itertools import pairwise
from typing import Any

import pytest

from engine.catalog import DEFAULT_MODEL, DEMO_MODEL, Catalog, Checkpoint, Dimensions
from jobs.pricing import BASE_224, price, stored_bytes
from models.types import JobType

LENS: dict[str, Any] = {
    "labels": ["a cat"],
    "layers": "all",
    "outputs": ["pooled"],
    "patch_layers": None,
    "patch_method": "head",
}
BASE = Checkpoint("base", "base", dimensions=BASE_224)
EMBEDDING = JobType.EMBEDDING


def lens(checkpoint: Checkpoint = BASE, **options: Any) -> tuple[float, int, float]:
    asked = price(JobType.LOGIT_LENS, {**LENS, **options}, "image", checkpoint)
    return asked.item_gflop, asked.item_bytes, asked.label_gflop


def test_an_image_of_the_base_model_costs_what_its_matrix_products_do() -> None:
    # ViT-B/16 at 224 pixels is known for 17.5 billion multiply-adds, with [CLS] (Dosovitskiy et al. 2021)
    assert price(EMBEDDING, {}, "image", BASE).item_gflop == pytest.approx(2 * 17.5, rel=0.03)


def test_larger_models_cost_more() -> None:
    def sized(width: int, layers: int) -> float:
        sizes = Dimensions(224, 16, width, layers, width // 64, 4 * width)
        return price(EMBEDDING, {}, "image", Checkpoint("x", "x", dimensions=sizes)).item_gflop

    assert sized(768, 24) == pytest.approx(2 * sized(768, 12))
    assert sized(1536, 12) > 3 * sized(768, 12)


def test_every_model_of_the_catalog_has_a_price() -> None:
    catalog = Catalog()
    for name in catalog.names():
        for kind in ("image", "text"):
            asked = price(EMBEDDING, {}, kind, catalog.find(name))
            assert asked.item_gflop > 0
            assert asked.item_bytes > 0
    prices = [
        price(EMBEDDING, {}, "image", catalog.find(name)).item_gflop for name in (DEMO_MODEL, DEFAULT_MODEL)
    ]
    assert prices[0] < prices[1] / 100


def test_a_folder_of_unknown_sizes_is_priced_as_the_base_model() -> None:
    unknown = Checkpoint("mapped", "/nowhere", local=True)
    assert price(EMBEDDING, {}, "text", unknown) == price(EMBEDDING, {}, "text", BASE)


def test_values_of_patches_cost_a_fraction_of_the_whole_head() -> None:
    def maps(method: str) -> float:
        return lens(outputs=["pooled", "patch"], patch_layers="all", patch_method=method)[0] - lens()[0]

    assert maps("value") == pytest.approx(maps("head") / 20)


def test_a_lens_costs_more_with_every_layer_and_map() -> None:
    asked = [
        price(EMBEDDING, {}, "image", BASE).item_gflop,
        lens(layers=[12])[0],
        lens(layers="all")[0],
        lens(layers="all", outputs=["pooled", "patch"])[0],
        lens(layers="all", outputs=["pooled", "patch"], patch_layers="all")[0],
    ]
    assert all(less < more for less, more in pairwise(asked))


def test_labels_are_paid_once_a_job_and_their_maps_by_memory() -> None:
    one, ten = lens(), lens(labels=[f"label {index}" for index in range(10)])
    assert ten[0] == one[0]
    assert ten[2] == pytest.approx(10 * one[2])
    forms = [
        {"name": "a", "prompts": ["one", "two"]},
        {"name": "b", "positive": ["three"], "negative": ["four", "five"]},
        {"name": "c", "vector": [1.0] * 768},
    ]
    assert lens(labels=forms)[2] == pytest.approx(5 * one[2])
    patch: dict[str, Any] = {"outputs": ["patch"]}
    few, many, more = (
        lens(labels=[f"label {index}" for index in range(count)], **patch)[1] for count in (2, 100, 5_000)
    )
    assert few < many == more, "no more maps are kept than are shown"


def test_what_is_read_of_tokens_costs_what_its_matrix_products_do() -> None:
    large = Catalog().find(DEFAULT_MODEL)
    whole = price(EMBEDDING, {}, "image", large).item_gflop

    def share(output: str) -> float:
        asked = lens(large, outputs=["pooled", output], patch_layers="all", patch_method="value")
        return (asked[0] - lens(large)[0]) / whole

    # attention is a product with each head's key, and a share one with each head and label
    assert share("contribution") == pytest.approx((1 + len(LENS["labels"])) * share("probe_attention"))
    assert share("contribution") < 0.1
    assert 0.02 < share("patch") < 0.06
    assert 0 < share("probe_attention") < 0.01
    assert [share(output) for output in ("token_norms", "embeddings", "activations")] == [0, 0, 0]


@pytest.mark.parametrize("output", ["patch", "probe_attention", "contribution", "token_norms"])
def test_everything_read_of_tokens_takes_memory_by_its_layers(output: str) -> None:
    few, many = (lens(outputs=["pooled", output], patch_layers=layers)[1] for layers in ([12], "all"))
    assert lens()[1] < few < many


def test_activations_are_priced_by_layers_and_tokens_and_the_memory_they_take() -> None:
    def stored(**options: Any) -> dict[str, int]:
        return stored_bytes(JobType.LOGIT_LENS, {**LENS, **options}, BASE)

    wanted: dict[str, Any] = {"outputs": ["activations"], "activation_layers": [0, 12, 12]}
    assert stored(**wanted) == {"activations": 2 * 196 * 768 * 4}
    assert stored(**wanted, activation_tokens="all") == stored(**wanted)
    assert stored(**wanted, activation_tokens=[5, 5, 0]) == {"activations": 2 * 2 * 768 * 4}
    assert stored(outputs=["activations"]) == {"activations": 196 * 768 * 4}
    assert lens(**wanted)[1] - lens()[1] >= 2 * 196 * 768 * 4
    asked = price(JobType.LOGIT_LENS, {**LENS, **wanted}, "image", BASE)
    assert asked.output_bytes == 2 * 196 * 768 * 4


def test_of_many_labels_the_maps_of_those_that_are_kept_are_counted() -> None:
    def stored(count: int) -> int:
        options = LENS | {"outputs": ["patch"], "labels": [f"label {index}" for index in range(count)]}
        return stored_bytes(JobType.LOGIT_LENS, options, BASE)["patch"]

    assert (stored(100), stored(101)) == (100 * 196 * 4, 5 * 196 * 4)


def test_embeddings_of_a_job_and_jobs_of_an_earlier_version_have_a_price() -> None:
    assert stored_bytes(EMBEDDING, {"normalize": True}, BASE) == {}
    assert stored_bytes(JobType.LOGIT_LENS, LENS, BASE) == {}
    kept = stored_bytes(JobType.LOGIT_LENS, LENS | {"outputs": ["embeddings"]}, BASE)
    assert kept == {"embeddings": 13 * 768 * 4}


def test_a_text_is_cheaper_than_a_picture() -> None:
    text, image = (price(EMBEDDING, {}, kind, BASE) for kind in ("text", "image"))
    assert text.item_gflop < image.item_gflop
    assert text.item_bytes < image.item_bytes
    assert text.label_gflop == image.label_gflop == 0


def test_new_labels_over_kept_embeddings_cost_next_to_nothing_but_their_own_texts() -> None:
    options = {"labels": ["a cat", "a dog"], "layers": "all"}
    asked = price(JobType.RESCORE, options, "image", BASE)
    item_gflop, item_bytes, label_gflop = lens(labels=options["labels"])
    assert 0 < asked.item_gflop < item_gflop / 100
    assert 0 < asked.item_bytes < item_bytes / 10
    assert (asked.label_gflop, asked.output_bytes) == (label_gflop, 0)
    many = price(JobType.RESCORE, options | {"labels": [f"label {n}" for n in range(10_000)]}, "image", BASE)
    assert many.item_gflop > asked.item_gflop
    assert many.item_bytes > asked.item_bytes
