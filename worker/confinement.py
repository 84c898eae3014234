"""Take from a process whatever it does not need: its user, the network, files, processes, memory."""

import ctypes
import os
import pwd
import resource
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from worker.syscalls import refuse_other_calls

Step = Callable[[], None]

UNPRIVILEGED: Final = "nobody"
_UNPRIVILEGED_ID: Final = 65534
_FIRST_VICTIM: Final = b"1000"
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38


def confine(memory_bytes: int, cpu_seconds: int, parent: int) -> list[str]:
    """Give up what decoding does not need; returns what could not be given up, by name.

    Everything must be imported and open by now. `memory_bytes` is what may be taken beyond what is mapped
    already; `cpu_seconds` of a whole life; the process dies with `parent`, the process that started it.
    """
    steps: dict[str, Step] = {
        "oom_score": _be_killed_first,
        "user": _drop_user,
        # after the user, whose change clears it
        "death_signal": partial(_die_with, parent),
        "privileges": partial(_control, _PR_SET_NO_NEW_PRIVS, 1),
        "memory_dump": partial(_control, _PR_SET_DUMPABLE, 0),
        "standard_error": _say_nothing,
        "limits": partial(_limit, memory_bytes, cpu_seconds),
        "system_calls": refuse_other_calls,
    }
    return [name for name, step in steps.items() if not _succeeds(step)]


def _succeeds(step: Step) -> bool:
    try:
        step()
    except (OSError, ValueError, AttributeError):
        # AttributeError: a C library without prctl, on another system than Linux
        return False
    return True


def _be_killed_first() -> None:
    """When the machine runs out of memory, rather this process than the model's."""
    Path("/proc/self/oom_score_adj").write_bytes(_FIRST_VICTIM)


def _drop_user() -> None:
    if os.geteuid() != 0:
        return
    try:
        entry = pwd.getpwnam(UNPRIVILEGED)
        user, group = entry.pw_uid, entry.pw_gid
    except KeyError:
        user = group = _UNPRIVILEGED_ID
    os.setgroups([])
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)


def _die_with(parent: int) -> None:
    _control(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # it may have died before the kernel was told
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _say_nothing() -> None:
    """What a codec says of a picture is its sender's text: it has no place in the worker's log."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)


def _limit(memory_bytes: int, cpu_seconds: int) -> None:
    mapped = int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()
    for limit, most in (
        (resource.RLIMIT_AS, mapped + memory_bytes),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        # what is open stays open, nothing can be opened: no file and no socket, even without the filter
        (resource.RLIMIT_NOFILE, 0),
    ):
        allowed = resource.getrlimit(limit)[1]
        least = most if allowed == resource.RLIM_INFINITY else min(most, allowed)
        resource.setrlimit(limit, (least, least))


def _control(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")
