"""Labels to unit vectors, each of their texts embedded once: here, or long ago by whoever kept it."""

import hashlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import gcd
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.cosine import unit_rows
from engine.errors import InvalidArgumentError, LabelsIndistinctError
from engine.labels import Label, Prompts, resolve_prompts, texts_of
from engine.lens import LabelDirections
from engine.shapes import TextEmbeddings, TextVector, TokenIds
from engine.text import TEXT_POSITIONS, tokenize
from engine.version import ENGINE_VERSION

NOWHERE: Final = 1e-6
"""A vector that is shorter is what rounding left of unit vectors that cancel out."""
NO_IDS: Final = torch.empty((0, TEXT_POSITIONS), dtype=torch.int64)


@dataclass(frozen=True, slots=True)
class TextStore:
    """Where embeddings of texts are kept from one call to the next: [width] float32 of norm 1 by their keys.

    `find` returns those that are there; `keep` takes new ones, after each pass. Neither is to raise for a
    store that is away: what is not found is computed.
    """

    find: Callable[[Sequence[bytes]], Mapping[bytes, TextVector]]
    keep: Callable[[Mapping[bytes, TextVector]], None]


@dataclass(frozen=True, slots=True)
class TextTower:
    """A checkpoint's way from texts to embeddings, and everything that these depend on.

    `encode` takes token ids [text, 64] and gives embeddings [some, width], pass by pass.
    """

    tokenizer: Any
    encode: Callable[[TokenIds], Iterator[TextEmbeddings]]
    width: int
    checkpoint_sha256: str
    runtime: str
    dtype: str
    float32_precision: str
    device: str
    """Its type: the same precision is other arithmetic on another one."""

    def keys(self, ids: TokenIds) -> list[bytes]:
        """A key for each row of token ids: 32 bytes, equal only where the embedding is."""
        arithmetic = [self.runtime, self.dtype, self.float32_precision, self.device]
        origin = [self.checkpoint_sha256, ENGINE_VERSION, *arithmetic]
        salt = hashlib.sha256(repr(origin).encode())
        keys = []
        for row in ids.numpy().astype("<i4"):
            key = salt.copy()
            key.update(row.tobytes())
            keys.append(key.digest())
        return keys


def embed_directions(
    labels: Sequence[Label], template: str, tower: TextTower, store: TextStore | None = None
) -> LabelDirections:
    """Labels that were read, as unit vectors.

    Of several texts it is the mean of their unit vectors, of a direction that of `positive` minus that of
    `negative`; each is scaled to norm 1 (Radford et al. 2021, section 3.1.4, for the mean).

    Raises:
        LabelsIndistinctError: two labels that the model cannot tell apart, or both ends of a direction.
        InvalidArgumentError: a vector of another width.
    """
    _check_widths(labels, tower.width)
    prompts = [resolve_prompts(label, template) for label in labels]
    texts = list(dict.fromkeys(text for each in prompts for text in texts_of(each)))
    ids, cut = tokenize(tower.tokenizer, texts) if texts else (NO_IDS, [])
    keys = dict(zip(texts, tower.keys(ids), strict=True))
    _check_distinct(labels, prompts, keys)
    rows = _find_or_embed(tower, dict(zip(keys.values(), ids, strict=True)), store)
    too_long = {text for text, is_cut in zip(texts, cut, strict=True) if is_cut}
    unit = [
        _direct(label, each, {text: rows[keys[text]] for text in texts_of(each)})
        for label, each in zip(labels, prompts, strict=True)
    ]
    return LabelDirections(
        names=tuple(label.name for label in labels),
        prompts=tuple(prompts),
        unit=np.stack(unit).astype(np.float32, copy=False),
        truncated=np.array([not too_long.isdisjoint(texts_of(each)) for each in prompts], dtype=bool),
        checkpoint_sha256=tower.checkpoint_sha256,
    )


def _find_or_embed(
    tower: TextTower, ids: Mapping[bytes, Tensor], store: TextStore | None
) -> Mapping[bytes, TextVector]:
    """The unit embedding of each row of token ids, by its key."""
    rows = dict(store.find(list(ids))) if store is not None and ids else {}
    missing = [key for key in ids if key not in rows]
    if not missing:
        return rows
    waiting = iter(missing)
    for part in tower.encode(torch.stack([ids[key] for key in missing])):
        new = dict(zip(islice(waiting, len(part)), unit_rows(part).numpy(), strict=True))
        rows |= new
        if store is not None:
            # what is not finite speaks of a device that is sick, and would outlive it
            store.keep({key: row for key, row in new.items() if np.isfinite(row).all()})
    return rows


def _direct(label: Label, prompts: Prompts, rows: Mapping[str, TextVector]) -> TextVector:
    if prompts is None:
        return np.array(label.vector, dtype=np.float32)
    if isinstance(prompts, str):
        return rows[prompts]
    if isinstance(prompts, tuple):
        return _unit(_mean(prompts, rows), label)
    return _unit(_mean(prompts["positive"], rows) - _mean(prompts["negative"], rows), label)


def _mean(texts: Sequence[str], rows: Mapping[str, TextVector]) -> NDArray[np.float64]:
    return np.asarray(np.mean([rows[text] for text in texts], axis=0, dtype=np.float64))


def _unit(vector: NDArray[np.float64], label: Label) -> TextVector:
    length = np.linalg.norm(vector)
    if length < NOWHERE:
        raise InvalidArgumentError(
            "labels", f"the prompts of {label.name!r} cancel out: no direction is left"
        )
    return (vector / length).astype(np.float32)


def _check_widths(labels: Sequence[Label], width: int) -> None:
    for index, label in enumerate(labels):
        if label.vector is not None and len(label.vector) != width:
            raise InvalidArgumentError(
                "labels",
                f"label {index}, vector has {len(label.vector)} numbers, this checkpoint's width is {width}",
                path=(index, "vector"),
            )


def _check_distinct(labels: Sequence[Label], prompts: Sequence[Prompts], keys: Mapping[str, bytes]) -> None:
    """Refuse labels that the model cannot tell apart.

    "Dog" and "dog!" are one text to a tokenizer that drops case and punctuation, and two labels beyond the
    64th token too: their scores would tie at every layer and the winner would be the order of the list.
    """
    seen: dict[Hashable, int] = {}
    for index, (label, each) in enumerate(zip(labels, prompts, strict=True)):
        if isinstance(each, dict) and _shares(each["positive"], keys) == _shares(each["negative"], keys):
            raise LabelsIndistinctError(
                f"labels: the positive and negative prompts of {label.name!r} (label {index}) have equal"
                " token ids: there is no direction between them.",
                path=(index,),
            )
        first = seen.setdefault(_meaning(label, each, keys), index)
        if first != index:
            raise LabelsIndistinctError(
                f"labels: {labels[first].name!r} (label {first}) and {label.name!r} (label {index}) have"
                " equal token ids or vectors, so this model cannot tell them apart: remove or reword one.",
                path=(index,),
            )


def _meaning(label: Label, prompts: Prompts, keys: Mapping[str, bytes]) -> Hashable:
    """Equal for labels of one direction: the same texts in the same shares, or the same vector."""
    if isinstance(prompts, dict):
        return _shares(prompts["positive"], keys), _shares(prompts["negative"], keys)
    if prompts is None:
        # as they are compared with pictures: below that, only the way to norm 1 differs
        return np.array(label.vector, dtype=np.float32).tobytes()
    return _shares(texts_of(prompts), keys)


def _shares(texts: Sequence[str], keys: Mapping[str, bytes]) -> Hashable:
    counts = Counter(keys[text] for text in texts)
    common = gcd(*counts.values())
    return frozenset((key, count // common) for key, count in counts.items())
