"""A real checkpoint from the hub against the logits that transformers publishes for it: on request only.

    LENSQUEUE_TEST_HUB=1 .venv/bin/python -m pytest tests/full/test_hub.py -m full

Needs a network: 0.8 GB of weights and one picture.
"""

import io
import os
import urllib.request

import pytest
import torch
from PIL import Image

from engine.siglip import SiglipEngine

PICTURE = "http://images.cocodataset.org/val2017/000000039769.jpg"
TEXTS = ["a photo of 2 cats", "a photo of 2 dogs"]
LOGITS = [-0.7567, -10.3354]
"""Of google/siglip-base-patch16-224: transformers, tests/models/siglip/test_modeling_siglip.py."""

pytestmark = pytest.mark.skipif(
    os.environ.get("LENSQUEUE_TEST_HUB") != "1", reason="set LENSQUEUE_TEST_HUB=1 to download a checkpoint"
)


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
@pytest.mark.usefixtures("online")
def test_published_logits_are_reproduced(runtime: str) -> None:
    engine = SiglipEngine("google/siglip-base-patch16-224", device="cpu", runtime=runtime)
    with urllib.request.urlopen(PICTURE) as answer:
        picture = Image.open(io.BytesIO(answer.read()))
    lens = engine.lens([picture], TEXTS, template="{}")
    torch.testing.assert_close(
        torch.from_numpy(lens.final_logit[0]), torch.tensor(LOGITS), rtol=1e-3, atol=1e-2
    )
