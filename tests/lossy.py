"""A way to Postgres on which the answer to a commit gets lost: it was committed, and nobody hears of it."""

import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import make_url

OVER = b"Z\x00\x00\x00\x05I"
"""ReadyForQuery, outside of a transaction: what was asked for is committed."""


@dataclass(slots=True)
class LossyWay:
    """Where it is; of the next `losses` transactions that send `marker` the connection breaks at the end."""

    url: str
    marker: bytes
    losses: int = 0

    def carry(self, client: socket.socket, server: socket.socket) -> None:
        """Pass on what the one end says to the other, until one is silent or there is a loss."""
        marked = threading.Event()

        def ask() -> None:
            said = b""
            with suppress(OSError):
                while data := client.recv(65_536):
                    said = said[-len(self.marker) :] + data
                    if self.losses and self.marker in said:
                        marked.set()
                    server.sendall(data)
            hang_up(client, server)

        threading.Thread(target=ask, daemon=True).start()
        with suppress(OSError):
            while data := server.recv(65_536):
                if marked.is_set() and data.endswith(OVER):
                    self.losses -= 1
                    break
                client.sendall(data)
        hang_up(client, server)


def hang_up(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


@contextmanager
def lossy_way(database_url: str, marker: bytes) -> Iterator[LossyWay]:
    """Another address of a database that is at a socket in a folder."""
    url = make_url(database_url)
    name = f".s.PGSQL.{url.query['port']}"
    folder = Path(tempfile.mkdtemp(prefix="lossy-"))
    way = LossyWay(url.update_query_dict({"host": str(folder)}).render_as_string(hide_password=False), marker)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(folder / name))
    listening.listen(64)

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listening.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(Path(str(url.query["host"])) / name))
                threading.Thread(target=way.carry, args=(client, server), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield way
    finally:
        hang_up(listening)
        shutil.rmtree(folder)
