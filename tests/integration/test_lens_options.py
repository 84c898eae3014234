"""What a lens may be asked for: checked against the checkpoint's depth before anything is stored."""

import base64
from pathlib import Path
from typing import Any, get_args

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from api.app import create_app
from api.schemas.options import Output
from api.settings import ApiSettings
from engine.catalog import DEFAULT_TEMPLATE
from engine.plan import OUTPUTS
from tests.integration.test_bad_requests import assert_problem
from tests.ledger import MODEL, claim, scalar

DEPTH = 6
"""Of the demo checkpoint."""
IMAGES = {"images": [{"data": base64.b64encode(b"anything").decode()}]}


def ask(api: TestClient, options: Any, model: str = MODEL) -> Any:
    body = {"type": "logit_lens", "model": model, "labels": ["a ring"], "input": IMAGES, "options": options}
    return api.post("/v1/jobs", json=body)


def stored(api: TestClient, sessions: sessionmaker[Session], options: Any) -> dict[str, Any]:
    """The options as a worker reads them."""
    assert ask(api, options).status_code == 202
    held = claim(sessions)
    assert held is not None
    kept: dict[str, Any] = held.units[0].options
    assert kept.pop("labels") == ["a ring"]
    return kept


def test_every_option_is_stored_with_its_default(api: TestClient, sessions: sessionmaker[Session]) -> None:
    assert stored(api, sessions, {}) == {
        "template": DEFAULT_TEMPLATE,
        "outputs": ["pooled"],
        "layers": "all",
        "patch_layers": None,
        "patch_method": "head",
        "pixels": "exact",
        "activation_layers": None,
        "activation_tokens": None,
        "softmax": False,
        "uncalibrated": False,
        "use_cache": True,
    }


@pytest.mark.parametrize("outputs", [["patch"], ["pooled", "patch"], ["patch", "pooled"]])
def test_the_pooled_lens_is_given_with_every_patch_lens(
    api: TestClient, sessions: sessionmaker[Session], outputs: list[str]
) -> None:
    assert stored(api, sessions, {"outputs": outputs})["outputs"] == ["pooled", "patch"]


def test_whatever_the_engine_gives_can_be_asked_for_in_any_order(
    api: TestClient, sessions: sessionmaker[Session]
) -> None:
    assert get_args(Output) == OUTPUTS
    options: dict[str, Any] = {"outputs": list(reversed(OUTPUTS)), "activation_layers": {"every": 2}}
    options |= {"activation_tokens": [99, 0], "softmax": True, "uncalibrated": True, "patch_layers": [0]}
    kept = stored(api, sessions, options)
    assert kept == {**kept, **options, "outputs": list(OUTPUTS)}


@pytest.mark.parametrize("output", ["probe_attention", "contribution", "token_norms"])
def test_patch_layers_are_those_of_all_that_is_read_of_patches(
    api: TestClient, sessions: sessionmaker[Session], output: str
) -> None:
    assert stored(api, sessions, {"outputs": [output], "patch_layers": [1]})["patch_layers"] == [1]


@pytest.mark.parametrize(
    "tokens", ["first", 3, [], [-1], [True], [1.5], [100], [10_000], [[1]], {"every": 2}]
)
def test_tokens_that_the_checkpoint_has_not_are_refused(
    api: TestClient, sessions: sessionmaker[Session], tokens: Any
) -> None:
    asked = ask(api, {"outputs": ["activations"], "activation_tokens": tokens})
    problem = assert_problem(asked, 422, "invalid-request")
    assert [error["pointer"] for error in problem["errors"]] == ["/options/activation_tokens"]
    assert scalar(sessions, "SELECT count(*) FROM images") == 0


def test_a_job_whose_arrays_are_larger_than_one_may_keep_is_told_how_large_they_are(
    settings: ApiSettings, key: str, sessions: sessionmaker[Session]
) -> None:
    a_layer = 100 * 128 * 4
    tight = settings.model_copy(update={"max_job_output_bytes": 2 * a_layer})
    options: dict[str, Any] = {"outputs": ["activations"], "activation_layers": [0, 1]}
    with TestClient(create_app(tight), headers={"Authorization": f"Bearer {key}"}) as api:
        assert ask(api, options).status_code == 202
        problem = assert_problem(ask(api, options | {"activation_layers": "all"}), 422, "outputs-too-large")
        assert problem["errors"][0]["pointer"] == "/options/outputs"
        for word in (str(7 * a_layer), str(2 * a_layer), "activation_layers", "activation_tokens"):
            assert word in problem["detail"]
        fewer = options | {"activation_layers": "all", "activation_tokens": list(range(28))}
        assert ask(api, fewer).status_code == 202
        assert_problem(ask(api, fewer | {"outputs": ["activations", "embeddings"]}), 422, "outputs-too-large")
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 2


@pytest.mark.parametrize("layers", ["all", {"every": 4}, {"every": 1_000}, [0], [DEPTH, 0, 3], [2, 2]])
def test_layers_are_asked_for_in_three_ways(
    api: TestClient, sessions: sessionmaker[Session], layers: Any
) -> None:
    options = {"layers": layers, "patch_layers": layers, "outputs": ["patch"], "patch_method": "head"}
    kept = stored(api, sessions, options)
    assert (kept["layers"], kept["patch_layers"]) == (layers, layers)


@pytest.mark.parametrize(
    "layers",
    [
        "last",
        "",
        True,
        3,
        None,
        {},
        {"every": 0},
        {"every": -1},
        {"every": True},
        {"every": 2.5},
        {"every": 10**30},
        {"every": 2, "from": 1},
        {"each": 2},
        [],
        [-1],
        [DEPTH + 1],
        [0, DEPTH + 1],
        [True],
        [1.5],
        ["1"],
        [[1]],
        [0] * 1_001,
    ],
)
def test_layers_that_the_checkpoint_has_not_are_refused(
    api: TestClient, sessions: sessionmaker[Session], layers: Any
) -> None:
    problem = assert_problem(ask(api, {"layers": layers}), 422, "invalid-request")
    assert [error["pointer"] for error in problem["errors"]] == ["/options/layers"]
    if layers is not None:
        patch = ask(api, {"outputs": ["patch"], "patch_layers": layers})
        problem = assert_problem(patch, 422, "invalid-request")
        assert [error["pointer"] for error in problem["errors"]] == ["/options/patch_layers"]
    assert scalar(sessions, "SELECT count(*) FROM images") == 0


def test_a_layer_out_of_reach_is_answered_with_those_that_are_there(api: TestClient) -> None:
    assert f"0..{DEPTH}" in ask(api, {"layers": [DEPTH + 1]}).json()["detail"]
    assert ask(api, {"layers": [27]}, model="google/siglip-so400m-patch14-384").status_code == 202


@pytest.mark.parametrize(
    ("options", "pointer"),
    [
        ({"patch_layers": "all"}, "/options/patch_layers"),
        ({"outputs": ["pooled"], "patch_layers": [1]}, "/options/patch_layers"),
        ({"outputs": []}, "/options/outputs"),
        ({"outputs": ["pooled", "pooled"]}, "/options/outputs"),
        ({"outputs": ["patch"] * 1_000}, "/options/outputs"),
        ({"outputs": ["embeddings"], "patch_layers": [1]}, "/options/patch_layers"),
        ({"activation_layers": [1]}, "/options/activation_layers"),
        ({"outputs": ["patch"], "activation_tokens": "all"}, "/options/activation_tokens"),
        ({"outputs": ["activations"], "activation_layers": [7]}, "/options/activation_layers"),
        ({"outputs": ["activations"], "activation_layers": "last"}, "/options/activation_layers"),
        ({"softmax": 1}, "/options/softmax"),
        ({"uncalibrated": None}, "/options/uncalibrated"),
        ({"outputs": ["tokens"]}, "/options/outputs/0"),
        ({"outputs": "patch"}, "/options/outputs"),
        ({"outputs": [True]}, "/options/outputs/0"),
        ({"outputs": ["patch"], "patch_method": "mean"}, "/options/patch_method"),
        ({"patch_method": None}, "/options/patch_method"),
        ({"unheard": 1}, "/options/unheard"),
    ],
)
def test_options_that_say_nothing_are_refused(api: TestClient, options: Any, pointer: str) -> None:
    problem = assert_problem(ask(api, options), 422, "invalid-request")
    assert problem["errors"][0]["pointer"] == pointer


def test_layers_of_a_checkpoint_that_only_the_workers_can_read_are_left_to_them(
    settings: ApiSettings, key: str, tmp_path: Path
) -> None:
    mapped = settings.model_copy(update={"model_paths": {"my/own": tmp_path / "elsewhere"}})
    with TestClient(create_app(mapped), headers={"Authorization": f"Bearer {key}"}) as api:
        assert ask(api, {"layers": [900]}, model="my/own").status_code == 202
        assert_problem(ask(api, {"patch_layers": [1]}, model="my/own"), 422, "invalid-request")


def test_the_openapi_document_describes_layers(api: TestClient) -> None:
    options = api.get("/openapi.json").json()["components"]["schemas"]["LensOptions"]["properties"]
    assert [shape.get("type", "const") for shape in options["layers"]["anyOf"]] == [
        "const",
        "object",
        "array",
    ]
    assert options["outputs"]["items"]["enum"] == list(OUTPUTS)
