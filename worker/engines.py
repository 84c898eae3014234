"""Making the engine that a worker's settings name; for the child alone, since engines import torch."""

import importlib
from typing import TYPE_CHECKING, Final, cast

import torch

from worker.memory import Memory, own_memory
from worker.settings import WorkerSettings

if TYPE_CHECKING:
    from engine.siglip import SiglipEngine


CPU_BATCH_BYTES: Final = 2 * 2**30
GPU_SHARE: Final = 0.5
"""Of the memory that is free once the checkpoint is loaded; the rest is for what no estimate knows of."""


def make_engine(settings: WorkerSettings) -> "SiglipEngine":
    """The engine, with its checkpoint loaded: SiglipEngine, or what stands in for it in tests and benchmarks.

    Raises:
        EngineError: the checkpoint cannot be loaded.
        ImportError, AttributeError: the setting names nothing that is there.
    """
    module, _, name = settings.engine.partition(":")
    make = getattr(importlib.import_module(module), name)
    engine = make(
        model_name=settings.model,
        device=settings.device,
        dtype=settings.dtype,
        runtime=settings.runtime,
        catalog=settings.catalog(),
    )
    return cast("SiglipEngine", engine)


def free_bytes(device: torch.device) -> int:
    """The memory that a batch may take on this device."""
    if device.type != "cuda":
        return CPU_BATCH_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    return int(free * GPU_SHARE)


def device_memory(device: torch.device) -> Memory | None:
    """What is taken of a GPU, by whomever; or by this process, where the model runs on a CPU."""
    if device.type != "cuda":
        return own_memory()
    free, limit = torch.cuda.mem_get_info(device)
    return Memory(limit - free, limit)
