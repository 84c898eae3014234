"""For those who doubt us: what a job was asked, and its last layer without any of our code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lensqueue_client.jobs import Job

LOCAL: Final = "local:"
"""So begins the revision of a checkpoint that is a folder of whoever runs the service."""

SCRIPT: Final = """\
# The last layer of one picture by plain transformers: python {name} PICTURE [CHECKPOINT_FOLDER]
import json, sys
import torch
from PIL import Image, ImageOps
from transformers import AutoTokenizer, SiglipImageProcessorPil, SiglipModel

LABELS = {labels}  # name, prompts, and those that a direction leads away from
source, revision = (sys.argv[2], None) if len(sys.argv) > 2 else ({model}, {revision})
model = SiglipModel.from_pretrained(source, revision=revision, dtype=torch.float32).eval()
tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
processor = SiglipImageProcessorPil.from_pretrained(source, revision=revision)
unit = lambda vectors: torch.nn.functional.normalize(vectors, dim=-1)

def mean(prompts):
    ids = tokenizer([each.lower() for each in prompts], padding="max_length", max_length=64, truncation=True,
                    padding_side="right", return_tensors="pt")["input_ids"]
    return unit(model.text_model(input_ids=ids).pooler_output).mean(dim=0)

with torch.no_grad():
    picture = ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("RGB")
    image = unit(model.vision_model(processor(picture, return_tensors="pt")["pixel_values"]).pooler_output[0])
    vectors = [mean(these) - mean(those) if those else mean(these) for _, these, those in LABELS]
    cosines = unit(torch.stack(vectors)) @ image
    logits = model.logit_scale.exp() * cosines + model.logit_bias
# scale and bias are fitted for texts: of a direction, the logit says nothing
found = zip(LABELS, cosines.tolist(), logits.tolist())
print(json.dumps({{name: {{"cosine": cosine, "logit": None if those else logit}}
                  for (name, _, those), cosine, logit in found}}, indent=1))
"""


@dataclass(frozen=True, slots=True)
class Reproduction:
    """The body that a job was submitted with, what computed it, and a script of plain transformers.

    `script` is None for a job without labels. It takes the path of a picture and, where the checkpoint is a
    folder and not on the hub, that folder; labels that are vectors are left out of it.
    """

    body: Mapping[str, Any]
    provenance: Mapping[str, Any]
    script: str | None


def reproduction_of(job: Job, body: Mapping[str, Any]) -> Reproduction:
    """What there is to reproduce a job with."""
    provenance = job.provenance or {}
    labels = body.get("labels") or ()
    template = (body.get("options") or {}).get("template") or provenance.get("template") or "{}"
    prompts = list(_prompts(labels, template))
    revision = provenance.get("revision")
    script = SCRIPT.format(
        name="reproduce.py",
        labels=json.dumps(prompts),
        model=json.dumps(job.model),
        revision=repr(None if revision is None or revision.startswith(LOCAL) else revision),
    )
    return Reproduction(body, provenance, script if prompts else None)


def _prompts(labels: Iterable[Any], template: str) -> Iterable[tuple[str, list[str], list[str]]]:
    for label in labels:
        if isinstance(label, str):
            yield label, [template.replace("{}", label)], []
        elif "prompts" in label:
            yield label["name"], list(label["prompts"]), []
        elif "positive" in label:
            yield label["name"], _many(label["positive"]), _many(label["negative"])


def _many(prompts: str | list[str]) -> list[str]:
    return [prompts] if isinstance(prompts, str) else list(prompts)
