"""Labels on the wire: four forms, each fault pointed at, and one way to keep what means the same."""

import base64
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from api.app import create_app
from api.settings import ApiSettings
from engine.catalog import DEFAULT_MODEL, Catalog
from tests.integration.test_bad_requests import assert_problem
from tests.ledger import MODEL, claim, scalar

Sessions = sessionmaker[Session]
IMAGES = {"images": [{"data": base64.b64encode(b"anything").decode()}]}


def width(model: str = MODEL) -> int:
    sizes = Catalog().find(model).dimensions
    assert sizes is not None
    return sizes.hidden_size


def ask(api: TestClient, *labels: Any, model: str = MODEL, **headers: str) -> Any:
    body = {"type": "logit_lens", "model": model, "labels": labels, "input": IMAGES}
    return api.post("/v1/jobs", json=body, headers=headers)


def vector(*numbers: float) -> list[float]:
    return [*numbers, *[0.0] * (width() - len(numbers))]


def test_every_form_is_kept_for_the_worker_in_one_way(api: TestClient, sessions: Sessions) -> None:
    answer = ask(
        api,
        "a ring",
        {"name": "dog", "prompts": ["a photo of a dog", "a dog"]},
        {"name": "more", "positive": "a dog", "negative": ["a cat"]},
        {"name": "given", "vector": vector(3, 4e0)},
    )
    assert answer.status_code == 202
    held = claim(sessions)
    assert held is not None
    assert held.units[0].options["labels"] == [
        "a ring",
        {"name": "dog", "prompts": ["a photo of a dog", "a dog"]},
        {"name": "more", "positive": ["a dog"], "negative": ["a cat"]},
        {"name": "given", "vector": vector(0.6, 0.8)},
    ]


FAULTS: list[tuple[Any, str]] = [
    (7, "/labels/1"),
    (None, "/labels/1"),
    (["a"], "/labels/1"),
    ({}, "/labels/1"),
    ({"name": "x"}, "/labels/1"),
    ({"name": "x", "positive": ["a"]}, "/labels/1/negative"),
    ({"name": "x", "prompts": ["a"], "vector": [1.0]}, "/labels/1"),
    ({"prompts": ["a"]}, "/labels/1/name"),
    ({"name": "x", "prompts": ["a"], "weight": 2}, "/labels/1/weight"),
    ({"name": "x", "prompts": "a"}, "/labels/1/prompts"),
    ({"name": "x", "prompts": []}, "/labels/1/prompts"),
    ({"name": "x", "prompts": ["a"] * 101}, "/labels/1/prompts"),
    ({"name": "x", "prompts": ["a", 7]}, "/labels/1/prompts/1"),
    ({"name": "x", "prompts": ["a", " "]}, "/labels/1/prompts/1"),
    ({"name": "x", "prompts": ["a", "b\x00"]}, "/labels/1/prompts/1"),
    ({"name": "x", "prompts": ["x" * 1_001]}, "/labels/1/prompts/0"),
    ({"name": "", "prompts": ["a"]}, "/labels/1/name"),
    ({"name": "x", "positive": {}, "negative": "b"}, "/labels/1/positive"),
    ({"name": "x", "positive": "x" * 1_001, "negative": "b"}, "/labels/1/positive"),
    ({"name": "x", "positive": "a", "negative": ["b", None]}, "/labels/1/negative/1"),
    ({"name": "x", "vector": []}, "/labels/1/vector"),
    ({"name": "x", "vector": [0.0] * width()}, "/labels/1/vector"),
    ({"name": "x", "vector": [1.0] * (width() - 1)}, "/labels/1/vector"),
    ({"name": "x", "vector": [1.0] * 8_193}, "/labels/1/vector"),
    ({"name": "x", "vector": ["1"] * width()}, "/labels/1/vector/0"),
    ({"name": "x", "vector": [1.0, True]}, "/labels/1/vector/1"),
]


@pytest.mark.parametrize(("label", "pointer"), FAULTS)
def test_a_fault_in_a_label_is_pointed_at_and_nothing_is_stored(
    api: TestClient, sessions: Sessions, label: Any, pointer: str
) -> None:
    problem = assert_problem(ask(api, "a ring", label), 422, "invalid-request")
    assert pointer in [error["pointer"] for error in problem["errors"]]
    assert not any("(" in error["pointer"] for error in problem["errors"])
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 0


def test_names_differ_whatever_the_form(api: TestClient) -> None:
    answer = ask(api, "a ring", {"name": "a ring", "prompts": ["a cyan ring"]})
    problem = assert_problem(answer, 422, "duplicate-labels")
    assert [error["pointer"] for error in problem["errors"]] == ["/labels/1"]


def test_the_width_of_a_vector_is_that_of_the_model(api: TestClient) -> None:
    label = {"name": "x", "vector": [1.0] * width(DEFAULT_MODEL)}
    assert ask(api, label, model=DEFAULT_MODEL).status_code == 202
    problem = assert_problem(ask(api, label), 422, "invalid-request")
    assert str(width()) in problem["detail"]


@pytest.mark.parametrize("scale", [1e-300, 1e300, 5e-324])
def test_a_vector_of_any_length_is_kept_in_few_digits(
    api: TestClient, sessions: Sessions, scale: float
) -> None:
    assert ask(api, {"name": "x", "vector": vector(scale, 1e-5 * scale)}).status_code == 202
    assert scalar(sessions, "SELECT length(CAST(options AS text)) FROM jobs") < 8 * width()


@pytest.mark.parametrize(
    ("setting", "labels"),
    [
        ({"max_job_labels": 1}, ["a", {"name": "x", "prompts": ["b"]}]),
        ({"max_job_prompts": 3}, [{"name": "x", "prompts": ["a", "b"]}, "c", "d"]),
        ({"max_job_prompts": 2}, [{"name": "x", "positive": ["a", "b"], "negative": "c"}]),
        ({"max_job_numbers": 2 * width() - 1}, [{"name": n, "vector": vector(1.0)} for n in "ab"]),
    ],
)
def test_more_labels_prompts_or_numbers_than_a_job_may_have_are_refused(
    settings: ApiSettings, key: str, setting: dict[str, int], labels: list[Any]
) -> None:
    small = settings.model_copy(update=setting)
    with TestClient(create_app(small), headers={"Authorization": f"Bearer {key}"}) as api:
        problem = assert_problem(ask(api, *labels), 422, "too-many-labels")
        assert [error["pointer"] for error in problem["errors"]] == ["/labels"]
        assert ask(api, labels[0] if isinstance(labels[0], str) else "a").status_code == 202


def test_what_means_the_same_is_the_same_submission(api: TestClient, sessions: Sessions) -> None:
    def submit(positive: Any, scale: float, prompts: list[str]) -> Any:
        labels = [
            {"name": "a", "positive": positive, "negative": "cat"},
            {"name": "b", "vector": vector(3 * scale, 4 * scale)},
            {"name": "c", "prompts": prompts},
        ]
        return ask(api, *labels, **{"Idempotency-Key": "once"})

    first = submit("dog", 1.0, ["one", "two"])
    again = submit(["dog"], 2.0, ["one", "two"])
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json()["id"] == first.json()["id"]
    for other in (submit("wolf", 1.0, ["one", "two"]), submit("dog", 1.0, ["one"])):
        assert_problem(other, 422, "idempotency-key-reused")


def test_pictures_share_a_pass_only_where_their_labels_mean_the_same(
    api: TestClient, sessions: Sessions
) -> None:
    for label in (
        {"name": "a", "positive": "dog", "negative": "cat"},
        {"name": "a", "positive": ["dog"], "negative": ["cat"]},
        {"name": "a", "positive": ["cat"], "negative": ["dog"]},
        {"name": "a", "prompts": ["dog", "cat"]},
    ):
        assert ask(api, label).status_code == 202
    assert scalar(sessions, "SELECT count(DISTINCT batch_key) FROM work") == 3


def test_the_openapi_document_describes_all_forms(api: TestClient) -> None:
    schemas = api.get("/openapi.json").json()["components"]["schemas"]
    forms = schemas["LensRequest"]["properties"]["labels"]["items"]["oneOf"]
    assert [form.get("type") or form["$ref"].rpartition("/")[2] for form in forms] == [
        "string",
        "EnsembleLabel",
        "DirectionLabel",
        "VectorLabel",
    ]
    assert schemas["DirectionLabel"]["required"] == ["name", "positive", "negative"]


def test_names_that_would_outweigh_what_is_scored_are_refused(api: TestClient) -> None:
    long = ["\N{CAT FACE}" * 990 + f"{number}" for number in range(100)]
    answer = ask(api, *long)
    assert_problem(answer, 422, "labels-too-long")
    assert answer.json()["errors"][0]["pointer"] == "/labels"
    named = [{"name": f"cat {number}", "prompts": [prompt]} for number, prompt in enumerate(long)]
    assert ask(api, *named).status_code == 202
    # a hundred labels of a long line of text each, and one of the longest there can be
    assert ask(api, *(f"{number} " + "x" * 300 for number in range(100))).status_code == 202
    assert ask(api, "\N{CAT FACE}" * 1_000).status_code == 202
