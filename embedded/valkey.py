"""The embedded Valkey: the broker's queue, on disk before it is acknowledged to have lasted a second."""

from __future__ import annotations

import signal
import socket
import struct
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote

from embedded.orphans import end_orphans
from embedded.process import Service
from embedded.users import plain_environment

if TYPE_CHECKING:
    from pathlib import Path

    from embedded.binaries import Binaries
    from embedded.folders import Folders

NAME = "valkey"
SOCKET_NAME = "valkey.sock"
PROBE_SECONDS = 0.5


def broker_url(folders: Folders) -> str:
    """The broker as kombu and Celery spell a unix socket."""
    return f"redis+socket://{quote(str(_socket(folders)))}"


def valkey_url(folders: Folders) -> str:
    """The same server as redis-py spells it."""
    return f"unix://{quote(str(_socket(folders)))}"


def prepare_valkey(folders: Folders, binaries: Binaries) -> Service:
    """How to run Valkey such that what was queued survives a kill and nothing queued is evicted."""
    settings = {
        "port": "0",
        "unixsocket": str(_socket(folders)),
        "unixsocketperm": "700",
        "dir": str(folders.valkey),
        "daemonize": "no",
        "appendonly": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    return Service(
        name=NAME,
        argv=[str(binaries.valkey), *(w for name, value in settings.items() for w in (f"--{name}", value))],
        env=plain_environment(),
        user=folders.user,
        log=folders.logs / "valkey.log",
        prepare=partial(end_orphans, binaries.valkey.name, folders.valkey),
        ready=partial(_is_ready, _socket(folders)),
        ready_timeout_s=60.0,  # it loads the append-only file first
        stop_signal=signal.SIGTERM,
        stop_grace_s=30.0,
        restart=True,
        foundation=True,
    )


def _socket(folders: Folders) -> Path:
    return folders.sockets / SOCKET_NAME


def _is_ready(path: Path, pid: int) -> bool:
    """Whether the process `pid` itself, not one before it, answers on the socket and has loaded its data."""
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(PROBE_SECONDS)
            probe.connect(str(path))
            if _peer(probe) not in (pid, None):
                return False
            probe.sendall(b"PING\r\n")
            return probe.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def _peer(connection: socket.socket) -> int | None:
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    size = struct.calcsize("3i")
    pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(pid)
