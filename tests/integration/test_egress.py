"""Requests to URLs that others chose, over real sockets."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.addresses import Rules
from jobs.egress import Answer, Bounds, Egress, check_url
from jobs.errors import UrlRefusedError, UrlUnreachableError


class Handler(BaseHTTPRequestHandler):
    """Redirects, streams without end, says nothing, or tells what it was sent."""

    heard: ClassVar[list[tuple[str, dict[str, str], bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.heard.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("location", "http://169.254.169.254/latest/meta-data")
            self.send_header("set-cookie", "a=b")
            self.end_headers()
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            with closing(self.wfile):
                try:
                    while True:
                        self.wfile.write(b"x" * 65536)
                except OSError:
                    pass
        elif self.path == "/silent":
            threading.Event().wait(3)
        else:
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def server() -> Iterator[int]:
    """The port of a receiver on 127.0.0.1."""
    Handler.heard.clear()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    thread = threading.Thread(target=httpd.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield httpd.server_port
    finally:
        httpd.shutdown()
        httpd.server_close()


def send(url: str, *allowed: str, bounds: Bounds | None = None) -> Answer:
    """What comes back for one POST under these rules."""

    async def once() -> Answer:
        egress = Egress(Rules.parse(list(allowed)))
        try:
            return await egress.send("POST", url, body=b"hello", headers={"x-a": "b"}, bounds=bounds)
        finally:
            await egress.close()

    return asyncio.run(once())


def lead(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Have look-ups answered with these addresses, in turn; the list of the names that were asked for."""
    asked: list[str] = []

    def answer(host: Any, port: Any, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        addresses = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return asked


def test_an_allowed_host_is_asked_and_answers() -> None:
    with server() as port:
        answer = send(f"http://127.0.0.1:{port}/in?a=b#c", f"127.0.0.1:{port}")
    assert (answer.status, answer.body, answer.whole) == (200, b"ok", True)
    [(path, headers, body)] = Handler.heard
    assert (path, body, headers["x-a"]) == ("/in?a=b", b"hello", "b")


def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    with server() as port:
        answer = send(f"http://127.0.0.1:{port}/moved", "127.0.0.1:*")
    assert answer.status == 302
    assert len(Handler.heard) == 1


def test_an_endless_answer_is_read_to_its_bound() -> None:
    with server() as port:
        answer = send(f"http://127.0.0.1:{port}/endless", "127.0.0.1:*", bounds=Bounds(answer_bytes=1000))
    assert (answer.body, answer.whole) == (b"x" * 1000, False)


def test_silence_ends_by_the_bound_of_the_whole() -> None:
    with server() as port, pytest.raises(UrlUnreachableError, match=r"within 0\.2 s"):
        send(f"http://127.0.0.1:{port}/silent", "127.0.0.1:*", bounds=Bounds(total_seconds=0.2))


def test_where_nobody_listens_is_unreachable() -> None:
    with server() as port:
        pass
    with pytest.raises(UrlUnreachableError, match="ConnectError"):
        send(f"http://127.0.0.1:{port}/", "127.0.0.1:*")


def test_a_name_is_looked_up_once_and_the_address_that_was_checked_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = lead(monkeypatch, ["127.0.0.1"], ["169.254.169.254"])
    with server() as port:
        answer = send(f"http://receiver.test:{port}/", f"receiver.test:{port}")
    assert answer.status == 200
    assert asked == ["receiver.test"]
    assert Handler.heard[0][1]["host"] == f"receiver.test:{port}"


def test_one_address_that_is_not_public_refuses_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    lead(monkeypatch, ["93.184.215.14", "10.0.0.1"])
    with pytest.raises(UrlRefusedError, match="not public"):
        send("http://example.org/")


def test_the_next_address_is_tried_where_the_first_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    lead(monkeypatch, ["127.0.0.2", "127.0.0.1"])
    with server() as port:
        assert send(f"http://receiver.test:{port}/", f"receiver.test:{port}").status == 200


def test_tls_is_asked_for_by_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    lead(monkeypatch, ["127.0.0.1"])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        hello: list[bytes] = []

        def hear() -> None:
            connection, _ = listening.accept()
            with connection:
                hello.append(connection.recv(4096))

        thread = threading.Thread(target=hear, daemon=True)
        thread.start()
        with pytest.raises(UrlUnreachableError):
            send(f"https://receiver.test:{port}/", f"receiver.test:{port}")
        thread.join(5)
    assert b"receiver.test" in hello[0]


def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with server() as port:
        assert send(f"http://127.0.0.1:{port}/", "127.0.0.1:*").status == 200


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org",
        "//example.org/",
        "ftp://example.org/",
        "file:///etc/passwd",
        "gopher://example.org/",
        "http://",
        "http:///path",
        "http://user:secret@example.org/",
        "http://user@example.org/",
        "http://example.org:22/",
        "http://example.org:0/",
        "http://example.org:99999/",
        "http://127.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://0x7f.1/",
        "http://1.2.3.4.5/",
        "http://127.0.0.1./",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:8.8.8.8]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[fe80::1%25eth0]/",
        "http://[2002:7f00:1::]/",
        "http://169.254.169.254/latest/meta-data",
        "http://100.64.0.1/",
        "http://0.0.0.0/",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
        "http://exam ple.org/",
        "http://example.org\x00/",
        "http://example.org\r\nx: y/",
        "http://ex%61mple.org/",
        "http://①②⑦.⓪.⓪.①/",
        "http://\uff11\uff12\uff17.0.0.1/",
        "http://\ud800.org/",
        "http://" + "a" * 3000,
    ],
)
def test_a_bad_url_is_refused_before_anything_is_looked_up(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = lead(monkeypatch, ["93.184.215.14"])
    with pytest.raises(UrlRefusedError) as refused:
        send(url)
    assert refused.value.code == "url-refused"
    assert not asked


@pytest.mark.parametrize("url", ["http://example.org:8080/", "http://127.0.0.1/"])
def test_what_a_setting_would_allow_is_refused_with_its_name(url: str) -> None:
    with pytest.raises(UrlRefusedError, match="LENSQUEUE_EGRESS_ALLOWED"):
        check_url(url, Rules())


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.1"])
def test_a_name_that_leads_to_a_local_address_is_refused(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lead(monkeypatch, [address])
    with pytest.raises(UrlRefusedError, match="LENSQUEUE_EGRESS_ALLOWED") as refused:
        send("https://example.org/")
    # what could allow it, and not where that is
    assert address not in refused.value.message


@given(st.text(max_size=60))
def test_any_text_is_a_url_or_refused(text: str) -> None:
    for url in (text, f"http://{text}", f"https://{text}/x"):
        try:
            checked = check_url(url, Rules())
        except UrlRefusedError:
            continue
        assert checked.scheme in {"http", "https"}
        assert checked.raw_host
        assert not checked.userinfo
