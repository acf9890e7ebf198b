"""An HTTP proxy that loses or replaces requests and replies on demand, and remembers what passed."""

from __future__ import annotations

import http.client
import re
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote


class Loses(Enum):
    """What a fault loses; in both cases the client sees its connection end."""

    REQUEST = "the server never sees it"
    REPLY = "the server has done it"


@dataclass(frozen=True)
class Answers:
    """Answers in the server's place, which never sees the request."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    content: bytes = b"{}"


@dataclass(frozen=True)
class Slows:
    """Lets the reply wait, as an overloaded backend does."""

    by_s: float


@dataclass(frozen=True)
class Truncates:
    """Ends the connection after so many bytes of the reply's content; its length was announced in full."""

    after: int


Does = Loses | Answers | Slows | Truncates


@dataclass(frozen=True)
class Fault:
    """Strikes the next request with this method and a path like this, once."""

    method: str
    path: str
    does: Does

    def strikes(self, method: str, path: str) -> bool:
        return method == self.method and re.search(self.path, path) is not None


@dataclass
class FaultProxy:
    """A running proxy.

    :param faults: still to come; only the first can strike, and is then used up.
    :param always: befalls every request while it is set, after ``faults``.
    :param passed: method and path of every request that reached the server.
    :param seen: how many requests came, whatever became of them.
    """

    upstream_port: int
    port: int = 0
    faults: list[Fault] = field(default_factory=list)
    always: Does | None = None
    passed: list[tuple[str, str]] = field(default_factory=list)
    seen: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def passed_like(self, method: str, path: str) -> int:
        """Count the requests that reached the server, by method and a pattern of the path."""
        with self.lock:
            return sum(1 for seen in self.passed if seen[0] == method and re.search(path, seen[1]))

    def take_fault(self, method: str, path: str) -> Does | None:
        """Return what happens to this request."""
        with self.lock:
            self.seen += 1
            if self.faults and self.faults[0].strikes(method, path):
                return self.faults.pop(0).does
            return self.always


@contextmanager
def running_fault_proxy(upstream_port: int) -> Iterator[FaultProxy]:
    """Run a proxy in front of a server on 127.0.0.1."""
    proxy = FaultProxy(upstream_port)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = proxy.take_fault(self.command, unquote(self.path))
            if fault is Loses.REQUEST:
                return self.hang_up()
            if isinstance(fault, Answers):
                return self.answer(fault.status, fault.headers, fault.content)
            try:
                status, headers, content = self.forward(body)
            except OSError:
                return self.hang_up()
            if fault is Loses.REPLY:
                return self.hang_up()
            if isinstance(fault, Slows):
                proxy.stopping.wait(fault.by_s)
            if isinstance(fault, Truncates):
                self.answer(status, headers, content[: fault.after], len(content))
                return self.hang_up()
            return self.answer(status, headers, content)

        def answer(
            self,
            status: int,
            headers: Iterable[tuple[str, str]],
            content: bytes,
            announced: int | None = None,
        ) -> None:
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content) if announced is None else announced))
            self.end_headers()
            self.wfile.write(content)
            self.wfile.flush()

        do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815

        def forward(self, body: bytes) -> tuple[int, tuple[tuple[str, str], ...], bytes]:
            upstream = http.client.HTTPConnection("127.0.0.1", proxy.upstream_port, timeout=30)
            upstream.request(self.command, self.path, body, dict(self.headers))
            reply = upstream.getresponse()
            content = reply.read()
            upstream.close()
            with proxy.lock:
                proxy.passed.append((self.command, unquote(self.path)))
            kept = ("Content-Type", "Content-Encoding", "Retry-After", "Location")
            names = [(name, reply.headers[name]) for name in kept if name in reply.headers]
            return reply.status, tuple(names), content

        def hang_up(self) -> None:
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing; tests look at ``passed``."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield proxy
    finally:
        proxy.stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()
