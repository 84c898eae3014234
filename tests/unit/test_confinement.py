"""What a process can still do once it is confined, as root and as an ordinary user."""

import json
import subprocess
import sys
from typing import Any

import pytest

ATTEMPTS = """
import ctypes, json, mmap, os, resource, signal, socket, sys, threading
from worker import syscalls
from worker.confinement import confine

NOBODY = 65534
parent = os.getppid()

def attempt(action):
    try:
        found = action()
        return found if isinstance(found, (int, str)) else "done"
    except BaseException as error:
        return type(error).__name__

def run_thread():
    said = []
    thread = threading.Thread(target=lambda: said.append("ran"))
    thread.start()
    thread.join()
    return said[0]

def be_ordinary():
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        # as after the start of a program: otherwise its own /proc folder stays root's
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)

ACTIONS = {
    "socket": lambda: socket.socket(),
    "pair": lambda: socket.socketpair(),
    "read_file": lambda: os.open("/etc/hostname", os.O_RDONLY),
    "write_file": lambda: os.open("/tmp/written", os.O_WRONLY | os.O_CREAT),
    "list_folder": lambda: os.listdir("/"),
    "fork": os.fork,
    "execute": lambda: os.execv(sys.executable, [sys.executable, "-c", ""]),
    "signal_parent": lambda: os.kill(parent, 0),
    "program_memory": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC),
    "much_memory": lambda: len(bytearray(1 << 28)),
    "become_root": lambda: os.setresuid(0, 0, 0),
    "read_input": lambda: os.read(0, 5).decode(),
    "map_memory": lambda: len(mmap.mmap(-1, 4096)),
    "thread": run_thread,
}
"""

REFUSED = {
    "socket": "PermissionError",
    "pair": "PermissionError",
    "read_file": "PermissionError",
    "write_file": "PermissionError",
    "list_folder": "PermissionError",
    "fork": "PermissionError",
    "execute": "PermissionError",
    "signal_parent": "PermissionError",
    "program_memory": "PermissionError",
    "much_memory": "MemoryError",
    "become_root": "PermissionError",
}
WORKS = {"read_input": "hello", "map_memory": 4096, "thread": "ran"}

CONFINE = "kept = confine(1 << 27, 60, parent)\n"
REPORT = "print(json.dumps({'kept': kept} | {n: attempt(a) for n, a in ACTIONS.items()}))\n"


def attempt_all(*steps: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", "".join((ATTEMPTS, *steps, REPORT))],
        input="hello",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("before", ["", "be_ordinary()\n"], ids=["as_started", "as_ordinary_user"])
def test_a_confined_process_computes_and_does_nothing_else(before: str) -> None:
    told = attempt_all(before, CONFINE)
    assert told.pop("kept") == []
    assert told == REFUSED | WORKS


def test_without_confinement_all_of_it_would_work() -> None:
    told = attempt_all("kept = ['everything']\nACTIONS.pop('execute')\nACTIONS.pop('fork')\n")
    for name in set(told) & set(REFUSED) - {"become_root"}:
        assert told[name] != REFUSED[name], name


def test_what_the_kernel_refuses_is_named_and_the_rest_still_holds() -> None:
    forbid = """
machine = syscalls._MACHINES[os.uname().machine]
steps = [(32, 0, 0, 0), (21, machine.seccomp, 0, 1), (6, syscalls._REFUSE, 0, 0), (6, syscalls._ALLOW, 0, 0)]
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
syscalls._install(machine, b"".join(syscalls._step(*step) for step in steps))
"""
    told = attempt_all(forbid, CONFINE, "ACTIONS.pop('fork')\nACTIONS.pop('execute')\n")
    assert told["kept"] == ["system_calls"]
    # no descriptor is left for a file or a socket
    assert {told[name] for name in ("socket", "pair", "read_file", "write_file", "list_folder")} == {
        "OSError"
    }
    assert told["much_memory"] == "MemoryError"
    assert told["read_input"] == "hello"
    assert told["become_root"] == "PermissionError"


def test_a_process_whose_parent_is_gone_does_not_begin() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ATTEMPTS + "confine(1 << 27, 60, parent + 1)"], check=False, timeout=60
    )
    assert done.returncode == -9
