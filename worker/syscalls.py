"""The few system calls that decoding needs; a filter in the kernel refuses all others.

The filter is classic BPF over `struct seccomp_data`: number, machine, instruction pointer, six arguments. See
the kernel's Documentation/userspace-api/seccomp_filter.rst.
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_CALLS: Final[Mapping[str, tuple[int, int]]] = {
    # talking to the worker
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    # memory
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "mremap": (25, 216),
    "madvise": (28, 233),
    # threads of a codec: WebP and AVIF start some
    "clone": (56, 220),
    "clone3": (435, 435),
    "futex": (202, 98),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "membarrier": (324, 283),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "getcpu": (309, 168),
    "gettid": (186, 178),
    "getpid": (39, 172),
    "exit": (60, 93),
    "exit_group": (231, 94),
    # signals; tgkill ends a process by abort()
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "tgkill": (234, 131),
    # clocks, chance, and how much memory there is
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "clock_gettime": (228, 113),
    "gettimeofday": (96, 169),
    "getrandom": (318, 278),
    "sysinfo": (99, 179),
}
"""Numbers on x86_64 and aarch64, from the kernel's unistd headers."""

_LOAD: Final = 0x20
_IF_EQUAL: Final = 0x15
_IF_ANY_BIT: Final = 0x45
_RETURN: Final = 0x06
_NUMBER: Final = 0
_MACHINE: Final = 4
_ARGUMENTS: Final = 16

_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000 | errno.EPERM
# The C library then takes `clone`, whose flags lie in a register and can be looked at.
_UNKNOWN: Final = 0x00050000 | errno.ENOSYS

_CLONE_THREAD: Final = 0x00010000
_PROT_EXEC: Final = 0x4
_SET_MODE_FILTER: Final = 1
_ALL_THREADS: Final = 1


@dataclass(frozen=True, slots=True)
class _Machine:
    column: int
    audit: int
    seccomp: int


_MACHINES: Final = {"x86_64": _Machine(0, 0xC000003E, 317), "aarch64": _Machine(1, 0xC00000B7, 277)}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def refuse_other_calls() -> None:
    """From now on this process reads and writes what is open, computes, and nothing else.

    No file, socket or process can be opened or made, no signal sent to others, no memory made executable:
    all of it fails with EPERM. Needs `no_new_privs` or root; cannot be undone.

    Raises:
        OSError: the kernel refuses filters, or this machine's calls are not known here.
    """
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        raise OSError(errno.ENOTSUP, f"no filter for {platform.machine()}")
    _install(machine, _filter(machine, os.getpid()))


def _install(machine: _Machine, code: bytes) -> None:
    program = _Program(len(code) // 8, code)
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (ctypes.c_long(_SET_MODE_FILTER), ctypes.c_long(_ALL_THREADS), ctypes.byref(program))
    if libc.syscall(ctypes.c_long(machine.seccomp), *arguments) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")


def _filter(machine: _Machine, pid: int) -> bytes:
    numbers = {name: both[machine.column] for name, both in _CALLS.items()}
    parts = [
        _step(_LOAD, _MACHINE),
        _step(_IF_EQUAL, machine.audit, 1, 0),
        _step(_RETURN, _REFUSE),
        _step(_LOAD, _NUMBER),
        _step(_IF_EQUAL, numbers.pop("clone3"), 0, 1),
        _step(_RETURN, _UNKNOWN),
        _unless(numbers.pop("clone"), 0, _step(_IF_ANY_BIT, _CLONE_THREAD, 1, 0)),
        _unless(numbers.pop("mmap"), 2, _step(_IF_ANY_BIT, _PROT_EXEC, 0, 1)),
        _unless(numbers.pop("mprotect"), 2, _step(_IF_ANY_BIT, _PROT_EXEC, 0, 1)),
        _unless(numbers.pop("tgkill"), 0, _step(_IF_EQUAL, pid, 1, 0)),
    ]
    for number in numbers.values():
        parts += [_step(_IF_EQUAL, number, 0, 1), _step(_RETURN, _ALLOW)]
    return b"".join([*parts, _step(_RETURN, _REFUSE)])


def _unless(number: int, argument: int, test: bytes) -> bytes:
    """Refuse this call unless `test` of its argument's lower half (both machines are little-endian) skips."""
    return b"".join(
        [
            _step(_IF_EQUAL, number, 0, 4),
            _step(_LOAD, _ARGUMENTS + 8 * argument),
            test,
            _step(_RETURN, _REFUSE),
            _step(_RETURN, _ALLOW),
        ]
    )


def _step(operation: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """One `struct sock_filter`; the jumps count the steps that are passed over."""
    return struct.pack("=HBBI", operation, if_true, if_false, value)
