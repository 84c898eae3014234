"""A hub cache of its own for each checkpoint, of which one is kept at a time."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

# Nothing here may reach for a network; set before the hub library reads it.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import huggingface_hub.constants
import pytest
import torch

from tests.full.catalog import Facts
from tests.numerics.checkpoints import Sizes, save_siglip, save_siglip2
from tests.scratch import scratch_folder

COMMIT = "0" * 40
TIMEOUT_SECONDS = 600
TEXT_VOCABULARY = 40_000
"""SigLIP 2 has 256,000 entries, most of its size; the towers are what is tested at their real dimensions."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All that is here takes gigabytes and minutes."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("full")
            item.add_marker(pytest.mark.timeout(TIMEOUT_SECONDS))


@pytest.fixture(scope="session")
def put_on_the_hub() -> Iterator[Callable[[Facts], None]]:
    """Saves random weights of these dimensions, as the hub's cache would have them, instead of the last."""
    with scratch_folder("lensqueue-hub-") as folder, pytest.MonkeyPatch.context() as patched:
        cache = folder / "hub"
        patched.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
        yield lambda facts: _put(cache, facts)


def _put(cache: Path, facts: Facts) -> None:
    shutil.rmtree(cache, ignore_errors=True)
    repository = cache / f"models--{facts.name.replace('/', '--')}"
    save = save_siglip if facts.family == "siglip" else save_siglip2
    sizes = Sizes(
        image_size=facts.image_size,
        patch_size=facts.patch_size,
        width=facts.hidden_size,
        layers=facts.layers,
        heads=facts.attention_heads,
        mlp=facts.mlp_size,
        vocabulary=min(facts.text_vocab_size, TEXT_VOCABULARY),
    )
    save(repository / "snapshots" / COMMIT, sizes=sizes, dtype=torch.bfloat16)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
