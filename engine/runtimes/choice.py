"""Which runtime a checkpoint gets, and whether it may keep it."""

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from engine.cosine import unit_rows
from engine.errors import InvalidArgumentError, RuntimeFallbackWarning
from engine.folded import FoldedHead
from engine.residual import Stock
from engine.runtimes.compiled import CompiledRuntime
from engine.runtimes.eager import EagerRuntime
from engine.runtimes.runtime import Runtime
from engine.shapes import PixelValues, Pooled

RUNTIMES: Final = ("auto", "torch", "compiled", "openvino")

MAX_DRIFT: Final = {"float32": 1e-4, "bfloat16": 5e-2}
"""By dtype, how far a unit embedding of any layer may be from the reference's in float32.

No cosine can move by more than that. Roundings stay far below it, the exact GELU for SigLIP's is above.
"""

# what a compiler raises when it cannot serve this machine is its own affair
_START_FAULTS: Final = (RuntimeError, ImportError, OSError, ValueError, TypeError, AttributeError)


@dataclass(frozen=True, slots=True)
class Started:
    """The runtime that serves, how far it is from the reference, and why it is not the one that was chosen.

    `drift` is the largest distance of a layer's unit embedding from the reference's; `fallback` None when the
    chosen one serves.
    """

    runtime: Runtime
    drift: float
    fallback: str | None = None


def choose_runtime(wanted: str, device: torch.device) -> str:
    """The name of a runtime for this device; "auto" is the fastest.

    Raises:
        InvalidArgumentError: the runtime cannot run there.
    """
    has_openvino = importlib.util.find_spec("openvino") is not None
    if wanted == "auto":
        if device.type == "cuda":
            return "compiled"
        return "openvino" if has_openvino else "torch"
    if wanted == "openvino" and device.type != "cpu":
        raise InvalidArgumentError("runtime", f"openvino runs on cpu, not on {device}; choose compiled")
    if wanted == "openvino" and not has_openvino:
        raise InvalidArgumentError("runtime", "openvino is not installed: pip install openvino")
    return wanted


def start_runtime(
    name: str, vision: Any, dtype: str, folded: FoldedHead, pixel_values: PixelValues, stock: Stock
) -> Started:
    """Start the runtime of this name, if it makes of `pixel_values` what the library itself did, `stock`.

    If it does not, or cannot be started here, the reference serves instead, a warning says so, and so does
    `Started.fallback`.
    """
    try:
        runtime = _STARTERS[name](vision, dtype)
        drift = measure_drift(runtime, folded, pixel_values, stock)
    except _START_FAULTS as fault:
        reason = f"{name} cannot be started: {type(fault).__name__}: {fault}"[:500]
    else:
        bound = MAX_DRIFT[dtype]
        if drift <= bound:
            return Started(runtime, drift)
        reason = f"{name} is {drift:.2g} off in a unit embedding, {bound:g} is allowed"
    # stacklevel: start_runtime <- SiglipEngine <- the caller
    warnings.warn(f"torch serves instead: {reason}.", RuntimeFallbackWarning, stacklevel=3)
    reference = EagerRuntime(vision, dtype)
    return Started(reference, measure_drift(reference, folded, pixel_values, stock), reason)


def measure_drift(runtime: Runtime, folded: FoldedHead, pixel_values: PixelValues, stock: Stock) -> float:
    """Largest distance of a runtime's unit embeddings from the library's, over layers and pictures."""
    distances = [
        _distance(folded.read(ours), folded.read(theirs))
        for ours, theirs in zip(runtime.stream(pixel_values), stock.states, strict=True)
    ]
    # numpy's, which answers NaN when there is one: Python's passes over it
    return float(np.max(distances))


def _distance(ours: Pooled, theirs: Pooled) -> float:
    return float(torch.linalg.vector_norm(unit_rows(ours) - unit_rows(theirs), dim=-1).max())


def _start_openvino(vision: Any, dtype: str) -> Runtime:
    # whoever does without it need not have it
    from engine.runtimes.openvino_runtime import OpenVinoRuntime  # noqa: PLC0415 - see above

    return OpenVinoRuntime(vision, dtype)


_STARTERS: Final[dict[str, Callable[[Any, str], Runtime]]] = {
    "torch": EagerRuntime,
    "compiled": CompiledRuntime,
    "openvino": _start_openvino,
}
