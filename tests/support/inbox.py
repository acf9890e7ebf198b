"""Servers that take messages: a webhook and a mail server, each remembering what it got."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_string
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Inbox:
    """What arrived; ``status`` is what a webhook answers, ``hold`` makes it wait first."""

    port: int = 0
    posted: list[dict[str, Any]] = field(default_factory=list)
    mails: list[Message] = field(default_factory=list)
    status: int = 200
    hold: threading.Event | None = None

    def events(self, release: str | None = None) -> list[str]:
        """Return the events that were posted, in order."""
        return [one["event"] for one in self.posted if release in (None, one["release"])]


@contextmanager
def running_webhook() -> Iterator[Inbox]:
    """Run a webhook on 127.0.0.1."""
    inbox = Inbox()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if inbox.hold is not None:
                inbox.hold.wait(60)
            if inbox.status == 200:
                inbox.posted.append(json.loads(body))
            self.send_response(inbox.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    with _serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler), inbox):
        yield inbox


@contextmanager
def running_mail_server() -> Iterator[Inbox]:
    """Run a mail server on 127.0.0.1 that takes everything: the least of SMTP that a client needs."""
    inbox = Inbox()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.say("220 ready")
            while line := self.rfile.readline().decode().strip():
                command = line[:4].upper()
                if command == "DATA":
                    self.say("354 go on")
                    inbox.mails.append(message_from_string(self.read_mail()))
                self.say("221 bye" if command == "QUIT" else "250 ok")
                if command == "QUIT":
                    return

        def read_mail(self) -> str:
            lines = []
            while (line := self.rfile.readline().decode()) != ".\r\n":
                lines.append(line.removeprefix("."))
            return "".join(lines)

        def say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    with _serving(server, inbox):
        yield inbox


@contextmanager
def _serving(server: socketserver.TCPServer, inbox: Inbox) -> Iterator[None]:
    inbox.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        if inbox.hold is not None:
            inbox.hold.set()
        server.shutdown()
        thread.join()
        server.server_close()
