"""Arguments of the engine's methods, checked before torch can stumble over them."""

import platform
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from types import TracebackType
from typing import Any, Final

import numpy as np
import torch
from PIL import Image

from engine.errors import InvalidArgumentError, OutOfMemoryError
from engine.plan import OUTPUTS, PATCH_METHODS, TOKEN_OUTPUTS

_BATCHED_HIDDEN_AXES: Final = 3


def device_name(device: torch.device) -> str:
    """What the vendor calls it."""
    return (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or platform.machine()
    )


def choose_device(device: str | torch.device | None) -> torch.device:
    """The named device, or CUDA when there is one and the CPU otherwise.

    Raises:
        InvalidArgumentError: no such device here.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as fault:
        raise InvalidArgumentError("device", f"{device!r} is no device; there are cpu and cuda") from fault
    if chosen.type not in ("cpu", "cuda"):
        raise InvalidArgumentError("device", f"{device!r} is not supported; there are cpu and cuda")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise InvalidArgumentError("device", f"{device!r} is not present; choose cpu")
    return chosen


def check_choice(argument: str, value: object, choices: Iterable[str]) -> None:
    """Refuse a value that is none of `choices`, naming them."""
    offered = list(choices)
    if not isinstance(value, str) or value not in offered:
        raise InvalidArgumentError(argument, f"{value!r} is not offered; there are {offered}")


def check_outputs(
    outputs: object,
    patch_layers: object,
    patch_method: object,
    activation_layers: object = None,
    activation_tokens: object = None,
) -> None:
    """Refuse outputs that this version does not compute, and settings of outputs that were not asked for."""
    if isinstance(outputs, str) or not isinstance(outputs, Sequence) or not outputs:
        raise InvalidArgumentError("outputs", f"expected some of {list(OUTPUTS)}, e.g. ('pooled',)")
    for output in outputs:
        check_choice("outputs", output, OUTPUTS)
    if len(set(outputs)) < len(outputs):
        raise InvalidArgumentError("outputs", f"{list(outputs)} names one of them twice")
    if patch_layers is not None and not set(outputs) & set(TOKEN_OUTPUTS):
        raise InvalidArgumentError(
            "patch_layers",
            f"belongs to what is read of patches: add one of {list(TOKEN_OUTPUTS)} to the outputs",
        )
    check_choice("patch_method", patch_method, PATCH_METHODS)
    settings = {"activation_layers": activation_layers, "activation_tokens": activation_tokens}
    for argument, value in settings.items():
        if value is not None and "activations" not in outputs:
            raise InvalidArgumentError(argument, "belongs to the activations: add them to the outputs")


def check_flags(**flags: object) -> None:
    """Refuse what is neither True nor False."""
    for argument, value in flags.items():
        if not isinstance(value, bool):
            raise InvalidArgumentError(argument, f"expected True or False, not {value!r}")


def check_pixel_values(pixel_values: object, img_size: int) -> torch.Tensor:
    """The tensor [batch, 3, img, img], once it is one and finite."""
    wanted = f"expected a float tensor [batch, 3, {img_size}, {img_size}], as `normalize` gives"
    if not isinstance(pixel_values, torch.Tensor) or not pixel_values.is_floating_point():
        raise InvalidArgumentError("pixel_values", wanted)
    if tuple(pixel_values.shape[1:]) != (3, img_size, img_size) or pixel_values.shape[0] == 0:
        raise InvalidArgumentError("pixel_values", f"{wanted}, not {list(pixel_values.shape)}")
    if not bool(torch.isfinite(pixel_values).all()):
        raise InvalidArgumentError("pixel_values", "holds NaN or infinity")
    return pixel_values


def check_hidden(hidden: object, width: int) -> tuple[torch.Tensor, bool]:
    """The hidden state as [batch, patch, width], and whether it came with its batch axis."""
    wanted = f"expected a float tensor [batch, patch, {width}] or [patch, {width}]"
    if not isinstance(hidden, torch.Tensor) or not hidden.is_floating_point():
        raise InvalidArgumentError("hidden", wanted)
    batched = hidden.ndim == _BATCHED_HIDDEN_AXES
    if (
        not (batched or hidden.ndim == _BATCHED_HIDDEN_AXES - 1)
        or hidden.shape[-1] != width
        or 0 in hidden.shape
    ):
        raise InvalidArgumentError("hidden", f"{wanted}, not {list(hidden.shape)}")
    return (hidden if batched else hidden[None]), batched


def check_embeddings(embeddings: object, layers: int, width: int) -> torch.Tensor:
    """The embeddings [image, layer, width] as a finite float32 tensor."""
    wanted = f"expected float numbers [image, {layers} layers, {width}], as `lens` gives on request"
    if isinstance(embeddings, np.ndarray) and np.issubdtype(embeddings.dtype, np.floating):
        with np.errstate(over="ignore"):
            embeddings = torch.from_numpy(np.ascontiguousarray(embeddings, dtype=np.float32))
    if not isinstance(embeddings, torch.Tensor) or not embeddings.is_floating_point():
        raise InvalidArgumentError("embeddings", wanted)
    # in float32 before it is judged: what is finite in float64 need not be
    embeddings = embeddings.detach().to("cpu", torch.float32)
    if tuple(embeddings.shape[1:]) != (layers, width) or len(embeddings) == 0:
        raise InvalidArgumentError("embeddings", f"{wanted}, not {list(embeddings.shape)}")
    if not bool(torch.isfinite(embeddings).all()):
        raise InvalidArgumentError("embeddings", "holds NaN or infinity, in float32")
    if not bool(embeddings.any(dim=-1).all()):
        raise InvalidArgumentError("embeddings", "holds one that is all zeros: it has no direction")
    return embeddings


def batches(images: Iterable[Any], batch_size: int, *most: int | None) -> Iterator[list[Any]]:
    """The images in lists of `batch_size`, each read when it is due; a lone picture is a list of one.

    `most` bounds the lists where memory does.
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise InvalidArgumentError("batch_size", f"expected a whole number from 1, not {batch_size!r}")
    if isinstance(images, Image.Image):
        images = [images]
    if isinstance(images, (str, bytes)) or not isinstance(images, Iterable):
        raise InvalidArgumentError("images", f"expected PIL images, not {type(images).__name__}")
    remaining = iter(images)
    size = min([batch_size, *(bound for bound in most if bound is not None)])
    while batch := list(islice(remaining, size)):
        yield batch


def memory_errors() -> "_MemoryErrors":
    """Turn every out-of-memory error into ours, which a worker retries with fewer pictures.

    Raises:
        OutOfMemoryError: the device had no room.
    """
    return _MemoryErrors()


class _MemoryErrors:
    """A class, since from Python 3.12 on what is raised in a `contextmanager` is part of a cycle.

    The frames of a failed pass, and their tensors, then stay until they are collected, and half the batch
    finds the device as full.
    """

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, frames: TracebackType | None
    ) -> None:
        if fault is not None and _is_out_of_memory(fault):
            raise OutOfMemoryError(
                f"The device is out of memory, try a smaller batch_size: {fault}"
            ) from fault


def _is_out_of_memory(fault: BaseException) -> bool:
    # torch has a class of its own for a GPU only; on a CPU its allocator is known by its name. numpy and
    # OpenVINO raise Python's, the latter also what C++ calls it
    return isinstance(fault, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(fault, RuntimeError)
        and any(sign in str(fault) for sign in ("DefaultCPUAllocator", "bad_alloc"))
    )
