"""An HTTP server on 127.0.0.1 that answers what a test says, and remembers what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Asked(NamedTuple):
    """A request; names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Answer(NamedTuple):
    """A response. ``announced`` is a length that it claims to have; None says the real one."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = {}
    announced: int | None = None


@dataclass
class HttpServer:
    """A running server; ``answer`` may be replaced at any time."""

    answer: Callable[[Asked], Answer | None]
    port: int = 0
    asked: list[Asked] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def running_http_server(answer: Answer | None = Answer()) -> Iterator[HttpServer]:  # noqa: B008 - immutable
    """Run a server that always answers the same at first; None hangs up."""
    running = HttpServer(lambda _asked: answer)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, self.path, headers, body)
            running.asked.append(asked)
            self.close_connection = True
            answered = running.answer(asked)
            if answered is None:
                return
            self.send_response(answered.status)
            length = len(answered.body) if answered.announced is None else answered.announced
            if length >= 0:
                self.send_header("Content-Length", str(length))
            for name, value in answered.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answered.body)

        do_POST = do_PUT = do_HEAD = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    running.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
