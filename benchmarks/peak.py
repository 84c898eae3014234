"""The most that one core could do: its measured rate of fused multiply-adds, in FLOP a second."""

import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

ROUNDS: Final = 50_000_000
_SOURCE: Final = Path(__file__).with_name("peak.c")


def measure_peak() -> dict[str, float] | None:
    """GFLOP/s of one core by dtype; None without a C compiler, or AVX-512 with bfloat16."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not _has_instructions():
        return None
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "peak.so"
        subprocess.run(
            [
                compiler,
                "-O2",
                "-mavx512f",
                "-mavx512bf16",
                "-shared",
                "-fPIC",
                str(_SOURCE),
                "-o",
                str(library),
            ],
            check=True,
        )
        kernels = ctypes.CDLL(str(library))
        return {"float32": _rate(kernels.fma_float32), "bfloat16": _rate(kernels.fma_bfloat16)}


def _rate(kernel: "ctypes._NamedFuncPointer") -> float:
    kernel.restype, kernel.argtypes = ctypes.c_double, [ctypes.c_long]
    # the best of three: a core that was busy elsewhere can only be slower
    fastest: float = max(kernel(ROUNDS) for _ in range(3))
    return round(fastest / 1e9, 1)


def _has_instructions() -> bool:
    cpu_info = Path("/proc/cpuinfo")
    flags = cpu_info.read_text(encoding="utf-8").split() if cpu_info.exists() else []
    return {"avx512f", "avx512_bf16"} <= set(flags)
