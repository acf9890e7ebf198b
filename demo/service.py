"""A SIMULATED LLM service: two versions behind a router with an HTTP control plane, and users with a log.

No model answers here. Routing, revisions, faults, load and the request log are real; outcomes are drawn from
a seed. Run it alone with ``python -m demo.service --help``.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

from demo.metrics import CONTENT_TYPE, ServiceMetrics
from demo.router import Answer, ControlFault, Router
from demo.traffic import Behaviour, LoadGenerator, RequestLog, Traffic

NOTICE = "simulation: no model answers here, outcomes are drawn from a seed"


class SimulatedService:
    """The service with its load, in threads of this process; several can run side by side.

    :param behaviours: how each version answers; the first one gets all traffic to begin with.
    :param database: SQLite file of the request log.
    :param port: 0 takes a free one; see :attr:`url`.
    :param rate: requests per second over all versions.
    """

    def __init__(
        self,
        behaviours: Mapping[str, Behaviour],
        *,
        database: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        rate: float = 40.0,
        seed: int = 0,
    ) -> None:
        first = next(iter(behaviours))
        self.router = Router({version: float(version == first) for version in behaviours})
        self.traffic = Traffic(self.router, behaviours, rate=rate, seed=seed, began_at=time.time())
        self.metrics = ServiceMetrics(behaviours)
        self.log = RequestLog(database, watch=self.metrics.count)
        self.stopping = threading.Event()
        self._load = LoadGenerator(self.traffic, self.log)
        self._server = _Server((host, port), self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="simulated-service", daemon=True
        )

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def start(self) -> None:
        """Begin to listen and to send load."""
        self._load.start()
        self._thread.start()

    def stop(self) -> None:
        """End both; hanging requests are released."""
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._load.stop()
        self.log.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], service: SimulatedService) -> None:
        super().__init__(address, _Handler)
        self.service = service


class _LostReplyError(Exception):
    """Ends a request without an answer."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    body: dict[str, Any]

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing; the request log is the record."""

    def do_GET(self) -> None:
        self._answer("GET")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def do_POST(self) -> None:
        self._answer("POST")

    def _answer(self, method: str) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if (method, self.path.split("?")[0]) == ("GET", "/metrics"):
            # A scraper that keeps its connection would be answered after the service has stopped.
            self.close_connection = True
            self._send(Answer(200, {}), self.server.service.metrics.text().encode(), CONTENT_TYPE)
            return
        try:
            self.body = json.loads(raw) if raw else {}
            if not isinstance(self.body, dict):
                raise TypeError("the body must be a JSON object")
            answer = self._route(method, self.path.split("?")[0])
        except _LostReplyError:
            self.close_connection = True
            return
        except (ValueError, TypeError) as error:
            answer = Answer(422, {"error": str(error)})
        self._send(answer, json.dumps(answer.body).encode(), "application/json")

    def _send(self, answer: Answer, payload: bytes, content_type: str) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(payload)))
        self.send_header("X-Simulation", NOTICE)
        if self.close_connection:
            self.send_header("Connection", "close")
        if "revision" in answer.body:
            self.send_header("ETag", f'"{answer.body["revision"]}"')
        self.end_headers()
        self.wfile.write(payload)

    def _route(self, method: str, path: str) -> Answer:
        for route_method, pattern, handle in ROUTES:
            match = re.fullmatch(pattern, path)
            if match and route_method == method:
                return handle(self, *(unquote(part) for part in match.groups()))
        return Answer(404, {"error": f"no {method} {path} here", "simulation": NOTICE})

    def _configured_failure(self) -> Answer | None:
        service = self.server.service
        while service.router.fault is ControlFault.HANG and not service.stopping.wait(0.05):
            pass
        if service.router.fault is ControlFault.ERROR_500:
            return Answer(500, {"error": "the control plane is down (simulated fault)"})
        return None

    def read_traffic(self) -> Answer:
        return self._configured_failure() or self.server.service.router.read()

    def change_traffic(self) -> Answer:
        failure = self._configured_failure()
        if failure is not None:
            return failure
        router = self.server.service.router
        answer = router.change(
            self.body.get("weights"),
            if_match=self.headers.get("If-Match"),
            idempotency_key=self.headers.get("Idempotency-Key"),
            changed_by=self.headers.get("X-Changed-By") or self.body.get("changed_by"),
        )
        if router.fault is ControlFault.LOSE_REPLY:
            raise _LostReplyError
        return answer

    def read_changes(self) -> Answer:
        return Answer(200, {"changes": [asdict(change) for change in self.server.service.router.changes]})

    def set_faults(self) -> Answer:
        fault = ControlFault(self.body.get("control", ControlFault.OK))
        self.server.service.router.fault = fault
        return Answer(200, {"control": fault})

    def steer(self, version: str) -> Answer:
        traffic = self.server.service.traffic
        wanted = {key: float(value) for key, value in self.body.items()}
        ramp_s = wanted.pop("ramp_s", 0.0)
        try:
            behaviour = replace(traffic.behaviour(version), **wanted)
            traffic.steer(version, behaviour, ramp_s=ramp_s)
        except KeyError:
            return Answer(404, {"error": f"unknown version {version!r}"})
        return Answer(200, {"version": version, "ramp_s": ramp_s, **asdict(behaviour)})

    def generate(self) -> Answer:
        service = self.server.service
        request = service.traffic.draw(time.time())
        service.log.append([request])
        return Answer(200, {"text": request.output, "simulation": NOTICE, **asdict(request)})

    def answer(self, version: str) -> Answer:
        """Answer one text as ``version`` would, past the router and the log: what an evaluator asks."""
        try:
            text = self.server.service.traffic.answer(version, str(self.body.get("input", "")))
        except KeyError:
            return Answer(404, {"error": f"unknown version {version!r}"})
        return Answer(200, {"text": text, "version": version, "simulation": NOTICE})

    def read_health(self) -> Answer:
        return Answer(200, {"status": "ok", "simulation": NOTICE})


ROUTES: tuple[tuple[str, str, Callable[..., Answer]], ...] = (
    ("GET", "/control/traffic", _Handler.read_traffic),
    ("PUT", "/control/traffic", _Handler.change_traffic),
    ("GET", "/control/changes", _Handler.read_changes),
    ("POST", "/simulate/faults", _Handler.set_faults),
    ("POST", "/simulate/([^/]+)", _Handler.steer),
    ("POST", "/generate", _Handler.generate),
    ("POST", "/generate/([^/]+)", _Handler.answer),
    ("GET", "/", _Handler.read_health),
)


def main() -> None:
    """Run one service in the foreground until it is interrupted."""
    parser = argparse.ArgumentParser(prog="python -m demo.service", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--database", type=Path, default=Path("requests.db"), help="SQLite file of the log")
    parser.add_argument("--baseline", default="model-v41", help="the version that serves to begin with")
    parser.add_argument("--release", default="model-v42")
    parser.add_argument("--rate", type=float, default=40.0, help="requests per second")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    service = SimulatedService(
        {options.baseline: Behaviour(), options.release: Behaviour()},
        database=options.database,
        host=options.host,
        port=options.port,
        rate=options.rate,
        seed=options.seed,
    )
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with service:
        print(f"{NOTICE}\nlistening on {service.url}, logging into {options.database}", flush=True)
        stop.wait()


if __name__ == "__main__":
    main()
