"""A receiver of webhooks on 127.0.0.1, that answers as it is told and keeps what it heard."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Heard:
    """One request."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def message(self) -> Any:
        """What it says."""
        return json.loads(self.body)


@dataclass(slots=True)
class Receiver:
    """Sends challenges back; answers messages with the statuses in turn, and the last of them for ever."""

    port: int
    messages: list[Heard] = field(default_factory=list)
    challenges: list[Heard] = field(default_factory=list)
    statuses: list[int] = field(default_factory=lambda: [204])
    headers: dict[str, str] = field(default_factory=dict)
    echoes: Callable[[str], bytes] | None = lambda challenge: json.dumps({"challenge": challenge}).encode()
    released: threading.Event | None = None
    """Set, messages are not answered before it is."""

    def url(self, path: str = "/in") -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}{path}"

    def wait_for(self, count: int, seconds: float = 30) -> list[Heard]:
        """The messages, once there are so many."""
        until = time.monotonic() + seconds
        while len(self.messages) < count:
            assert time.monotonic() < until, f"{len(self.messages)} of {count} messages in {seconds} s"
            time.sleep(0.02)
        return self.messages

    @classmethod
    @contextmanager
    def listening(cls) -> Iterator[Self]:
        """A receiver, while it is wanted."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
        receiver = cls(server.server_port)
        server.RequestHandlerClass = handler_of(receiver)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            if receiver.released:
                receiver.released.set()
            server.shutdown()
            server.server_close()


def handler_of(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    """What answers for a receiver."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            heard = Heard(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            if heard.message["type"] == "endpoint.verification":
                receiver.challenges.append(heard)
                said = receiver.echoes(heard.message["data"]["challenge"]) if receiver.echoes else b""
                self.answer(200, said)
                return
            receiver.messages.append(heard)
            if receiver.released:
                receiver.released.wait()
            turn = min(len(receiver.messages), len(receiver.statuses)) - 1
            self.answer(receiver.statuses[turn], b"")

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
