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

ON_HUB: Final = "(sys.argv[2], None) if len(sys.argv) > 2 else ({model}, {revision})"
IN_FOLDER: Final = "(sys.argv[2], None) if len(sys.argv) > 2 else sys.exit({said})"

SCRIPT: Final = """\
# The last layer of one picture by plain transformers: python {name} PICTURE {folder}
import json, sys
import torch
from PIL import Image, ImageOps
from transformers import AutoTokenizer, SiglipImageProcessorPil, SiglipModel

LABELS = {labels}  # name, prompts, and those that a direction leads away from
source, revision = {source}
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
    model: str
    local: bool
    """Whether the checkpoint is a folder of whoever runs the service, which the script must be told."""


def reproduction_of(job: Job, body: Mapping[str, Any]) -> Reproduction:
    """What there is to reproduce a job with."""
    provenance = job.provenance or {}
    labels = body.get("labels") or ()
    template = (body.get("options") or {}).get("template") or provenance.get("template") or "{}"
    prompts = list(_prompts(labels, template))
    revision = provenance.get("revision")
    local = revision is not None and revision.startswith(LOCAL)
    if local:
        said = f"say which folder holds {job.model}: it is on no hub"
        source = IN_FOLDER.format(said=json.dumps(said))
    else:
        source = ON_HUB.format(model=json.dumps(job.model), revision=repr(revision))
    folder = "CHECKPOINT_FOLDER" if local else "[CHECKPOINT_FOLDER]"
    script = SCRIPT.format(name="reproduce.py", folder=folder, labels=json.dumps(prompts), source=source)
    return Reproduction(body, provenance, script if prompts else None, job.model, local)


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
