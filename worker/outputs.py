"""Arrays of a lens on their way to the store: one object a job and lease, and in results where they lie."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from engine.config import EngineConfig
from engine.lens import MLP_SHARE, Contribution, Lens, TokenMap
from jobs.blobs import BlobStore
from jobs.objects import ObjectName, Span, put_object
from worker.decoding import DecodedItem

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Pictured:
    """A picture with the lens of its batch, and its row in it."""

    found: DecodedItem
    lens: Lens
    row: int


@dataclass(frozen=True, slots=True)
class Output:
    """One output of one picture: what its result says of it, and its arrays by the part's name."""

    name: str
    says: dict[str, Any]
    parts: Mapping[str, Array]
    drawn: bool = False
    """Whether it is a map, to be laid over the picture's thumbnail."""


def has_arrays(lens: Lens) -> bool:
    """Whether there is anything to store beside the rows."""
    outputs = (lens.patch, lens.probe_attention, lens.contribution, lens.token_norms)
    return any(output is not None for output in (*outputs, lens.embeddings, lens.activations))


def outputs_of(lens: Lens, row: int, config: EngineConfig) -> list[Output]:
    """Every output of a picture that is an array beside its pooled scores."""
    outputs = []
    picture = {"patch_size": config.patch_size, "image_size": config.img_size}
    if lens.patch is not None:
        cosine = lens.patch.cosine[row]
        says = _array_says(list(lens.patch.layers), ["layer", "label", "row", "col"], cosine)
        says |= {"grid": list(lens.patch.grid), **picture}
        # from the median up, because a lens asks where a label is read, and most patches say nothing of most
        # labels; as of every map one scale for a whole picture, so that its maps can be compared
        says |= {"method": lens.patch.method, "scale": _scale(cosine)}
        outputs.append(Output("patch", says, {"scores": cosine}, drawn=True))
    for name, found in (("probe_attention", lens.probe_attention), ("token_norms", lens.token_norms)):
        if found is not None:
            outputs.append(_token_map(name, found, row, picture))
    if lens.contribution is not None:
        outputs.append(_contribution(lens.contribution, row, picture))
    if lens.embeddings is not None:
        says = _array_says(list(lens.layers), ["layer", "width"], lens.embeddings[row])
        outputs.append(Output("embeddings", says, {"array": lens.embeddings[row]}))
    if lens.activations is not None:
        states = lens.activations
        says = _array_says(list(states.layers), ["layer", "token", "width"], states.values[row])
        says |= {"tokens": "all" if states.tokens is None else list(states.tokens)}
        says |= {"grid": list(states.grid), "format": "safetensors"}
        outputs.append(Output("activations", says, {"array": states.values[row]}))
    return outputs


def store_outputs(
    blobs: BlobStore, name: ObjectName, pictures: Sequence[Pictured], config: EngineConfig
) -> list[dict[str, Any]]:
    """Store arrays and thumbnails of a job's pictures; returns what each picture's result says of them.

    A part's bytes are made when they are written, so that memory holds one of them beside the arrays.

    Raises:
        BlobStoreFullError: the disk is full: the work is worth another try later.
    """
    owned = [outputs_of(each.lens, each.row, config) for each in pictures]
    spans = iter(put_object(blobs, name, _parts(pictures, owned)))
    described = []
    for outputs in owned:
        small = _where(next(spans)) if any(output.drawn for output in outputs) else None
        says = {}
        for output in outputs:
            stored: dict[str, Any] = {"object": name.token.hex}
            stored |= {part: _where(next(spans)) for part in output.parts}
            if output.drawn:
                stored["thumbnail"] = small
            says[output.name] = {**output.says, "stored": stored}
        described.append(says)
    return described


def _parts(pictures: Sequence[Pictured], owned: Sequence[Sequence[Output]]) -> Iterator[bytes]:
    for picture, outputs in zip(pictures, owned, strict=True):
        if any(output.drawn for output in outputs):
            assert picture.found.thumbnail is not None
            yield picture.found.thumbnail
        for output in outputs:
            write: Callable[[Output, Array], bytes] = _states if output.name == "activations" else _npy
            yield from (write(output, array) for array in output.parts.values())


def _token_map(name: str, found: TokenMap, row: int, picture: Mapping[str, int]) -> Output:
    values = found.values[row]
    heads = name == "probe_attention"
    says = _array_says(list(found.layers), ["layer", *(["head"] if heads else []), "row", "col"], values)
    # of attention the mean of all heads is drawn
    says |= {"grid": list(found.grid), **picture, "scale": _scale(values.mean(axis=1) if heads else values)}
    return Output(name, says, {"array": values}, drawn=True)


def _contribution(found: Contribution, row: int, picture: Mapping[str, int]) -> Output:
    patches, share = found.patches[row], found.mlp_share[row].max()
    says = _array_says(list(found.layers), ["layer", "label", "row", "col"], patches)
    # shares are of either sign: their colours are to have 0 in the middle
    extent = float(np.abs(patches).max())
    says |= {"grid": list(found.grid), **picture, "scale": {"low": -extent, "high": extent}}
    says["mlp_share"] = {"max": share, "limit": MLP_SHARE, "warning": bool(share > MLP_SHARE)}
    parts = {"patches": patches, "bias": found.bias[row], "mlp": found.mlp[row]}
    return Output("contribution", says, parts, drawn=True)


def _array_says(layers: list[int], axes: list[str], array: Array) -> dict[str, Any]:
    return {"layers": layers, "axes": axes, "shape": list(array.shape), "dtype": str(array.dtype)}


def _scale(scores: Array) -> dict[str, Any]:
    return {"low": np.median(scores), "high": scores.max()}


def _npy(_: Output, array: Array) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _states(output: Output, array: Array) -> bytes:
    """A tensor [token, width] a layer, so that a reader can take one; what they are of is in the metadata."""
    layers = output.says["layers"]
    tensors = {
        f"hidden_states.{layer}": np.ascontiguousarray(states)
        for layer, states in zip(layers, array, strict=True)
    }
    tokens = output.says["tokens"]
    written: bytes = save(
        tensors,
        metadata={
            "layers": ",".join(map(str, layers)),
            "tokens": tokens if tokens == "all" else ",".join(map(str, tokens)),
            "grid": ",".join(map(str, output.says["grid"])),
        },
    )
    return written


def _where(span: Span) -> list[int]:
    return [span.offset, span.length]
