"""How much memory a worker without a GPU takes, and how much it may."""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

GROUP_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""Of a container: control groups of version 2, and of version 1."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that are taken, of those that there are."""

    taken: int
    limit: int


def own_memory() -> Memory | None:
    """What this process takes, and what it may; None where the system does not say."""
    try:
        resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return Memory(resident * os.sysconf("SC_PAGE_SIZE"), _limit())
    except (OSError, ValueError, IndexError):
        return None


@cache
def _limit() -> int:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *filter(None, map(_group_limit, GROUP_LIMITS))])


def _group_limit(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        # no such group, or `max`: no limit of its own
        return None
