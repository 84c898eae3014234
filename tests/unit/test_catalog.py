"""The catalog: what is supported, and three different ways to say that something is not."""

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.catalog import DEFAULT_MODEL, DEMO_MODEL, Catalog
from engine.errors import CatalogError, ModelDoesNotExistError, ModelNotSupportedError, UnknownModelError

ROOT = Path(__file__).resolve().parents[2]
ABSENT = [
    ("google/siglip-base-patch32-224", "google/siglip-base-patch16-224"),
    ("google/siglip-base-patch32-256", "google/siglip-base-patch16-256"),
    ("google/siglip-base-patch32-384", "google/siglip-base-patch16-384"),
    ("google/siglip-large-patch32-256", "google/siglip-large-patch16-256"),
    ("google/siglip-large-patch32-384", "google/siglip-large-patch16-384"),
    ("google/siglip-large-patch16-512", "google/siglip-large-patch16-384"),
]


def test_the_eleven_and_the_demo_are_supported() -> None:
    names = Catalog().names()
    assert len(names) == len(set(names)) == 12
    assert names[-1] == DEMO_MODEL
    assert DEFAULT_MODEL == "google/siglip-so400m-patch14-384"
    for name in names[:-1]:
        found = Catalog().find(name)
        assert (found.name, found.source, found.revision, found.local) == (name, name, None, False)


def test_dimensions_of_the_default_leave_six_pixels_uncovered() -> None:
    dimensions = Catalog().find(DEFAULT_MODEL).dimensions
    assert dimensions is not None
    assert (dimensions.grid, dimensions.patch_tokens) == ((27, 27), 729)
    assert (dimensions.layers, dimensions.hidden_size, dimensions.mlp_size) == (27, 1152, 4304)
    assert dimensions.image_size - dimensions.grid[0] * dimensions.patch_size == 6


def test_the_table_agrees_with_itself() -> None:
    table = json.loads((ROOT / "engine" / "checkpoints.json").read_text(encoding="utf-8"))
    for row in table["checkpoints"]:
        dimensions = Catalog().find(row["checkpoint"]).dimensions
        assert dimensions is not None
        assert dimensions.grid == (row["grid"], row["grid"])
        assert dimensions.patch_tokens == row["patch_tokens"]
    supported = {row["checkpoint"] for row in table["checkpoints"]}
    assert set(table["do_not_exist"].values()) <= supported
    assert not supported & (set(table["do_not_exist"]) | set(table["not_supported"]))
    assert [row["checkpoint"] for row in table["checkpoints"] if row["default"]] == [DEFAULT_MODEL]


@pytest.mark.parametrize(("name", "nearest"), ABSENT)
def test_a_name_that_does_not_exist_is_told_the_nearest_that_does(name: str, nearest: str) -> None:
    with pytest.raises(ModelDoesNotExistError, match=rf"nearest that does is {nearest}\.") as refusal:
        Catalog().find(name)
    assert refusal.value.code == "model-does-not-exist"


@pytest.mark.parametrize(
    "name",
    [
        "google/siglip2-base-patch16-naflex",
        "google/siglip2-so400m-patch16-naflex",
        "google/siglip2-base-patch32-256",
        "google/siglip-base-patch16-256-multilingual",
        "google/siglip2-giant-opt-patch16-384",
    ],
)
def test_a_checkpoint_that_exists_but_is_not_read_is_told_apart(name: str) -> None:
    with pytest.raises(ModelNotSupportedError, match="exists, but is not supported") as refusal:
        Catalog().find(name)
    assert refusal.value.code == "model-not-supported"
    assert ("resolution" in str(refusal.value)) == ("naflex" in name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "siglip",
        "google/siglip-huge",
        "openai/clip-vit-base-patch32",
        "/etc",
        "./demo/checkpoint",
        "../x",
        "~",
    ],
)
def test_anything_else_is_unknown_paths_included(name: str) -> None:
    with pytest.raises(UnknownModelError) as refusal:
        Catalog().find(name)
    assert refusal.value.code == "unknown-model"


@pytest.mark.parametrize("name", ["nonsense", "google/siglip-base-patch32-224", "google/siglip2-x-naflex"])
def test_every_refusal_names_what_is_supported(name: str) -> None:
    catalog = Catalog({"our/model": Path("/weights")})
    with pytest.raises(CatalogError) as refusal:
        catalog.find(name)
    assert all(supported in str(refusal.value) for supported in catalog.names())


def test_an_operator_s_folder_is_found_under_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(ROOT / "demo" / "checkpoint", folder)
    catalog = Catalog({"our/model": folder, "google/siglip-base-patch16-224": tmp_path / "elsewhere"})
    found = catalog.find("our/model")
    assert (found.source, found.local, found.revision) == (str(folder), True, None)
    assert found.dimensions is not None
    assert (found.dimensions.layers, found.dimensions.image_size) == (6, 80)
    # A folder that only the workers can see: named here, its sizes unknown.
    shadowed = catalog.find("google/siglip-base-patch16-224")
    assert (shadowed.source, shadowed.dimensions) == (str(tmp_path / "elsewhere"), None)
    assert catalog.names().count("google/siglip-base-patch16-224") == 1
    assert "our/model" in catalog.names()


def test_a_config_without_sizes_has_those_of_base_patch16_224(tmp_path: Path) -> None:
    """As on the hub, where a config leaves out what equals the defaults."""
    (tmp_path / "config.json").write_text('{"vision_config": {"image_size": 512}}', encoding="utf-8")
    dimensions = Catalog({"x": tmp_path}).find("x").dimensions
    assert dimensions == Catalog().find("google/siglip-base-patch16-512").dimensions


def test_catalog_errors_and_layers_are_read_without_torch() -> None:
    script = (
        "import sys, engine.catalog, engine.errors, engine.layers;"
        "print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    "sizes", [{"patch_size": 0}, {"hidden_size": "wide"}, {"image_size": [224]}, {"image_size": 1e999}, []]
)
def test_a_folder_whose_config_makes_no_sense_has_no_known_sizes(tmp_path: Path, sizes: object) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"vision_config": sizes}))
    assert Catalog({"our/model": tmp_path}).find("our/model").dimensions is None


def test_a_config_that_could_not_be_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"vision_config": {}}', encoding="utf-8")
    catalog = Catalog({"our/model": tmp_path})

    def fail(*_: object, **__: object) -> str:
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as broken:
        broken.setattr(Path, "read_text", fail)
        assert catalog.find("our/model").dimensions is None
    assert catalog.find("our/model").dimensions is not None
