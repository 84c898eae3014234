"""What a figure was measured on."""

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def describe_machine() -> dict[str, Any]:
    """The processor, its cores as this process may use them, memory and Python."""
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text(encoding="utf-8").splitlines() if cpu_info.exists() else []
    names = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": ", ".join(sorted(names)) or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(pages * page_bytes / 2**30, 1),
        "python": platform.python_version(),
    }


def describe_gpu(device: "torch.device") -> dict[str, Any]:
    """The card, its memory, and the CUDA that torch was built for; nothing of a CPU."""
    if device.type != "cuda":
        return {}
    import torch  # noqa: PLC0415 - whoever measures the service does without it

    card = torch.cuda.get_device_properties(device)
    return {
        "gpu": card.name,
        "gpu_memory_gib": round(card.total_memory / 2**30, 1),
        "cuda": torch.version.cuda,
    }
