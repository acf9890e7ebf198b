"""A control plane of very many rollouts, each with its own traffic: ``python -m bench.control_plane PORT``.

``/traffic/NAME`` is read and written as JSON; a write is known again by its ``Idempotency-Key``. Each answer
takes :data:`ANSWER_S`, as one that has something to do. ``/stats`` says how busy it was.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from aiohttp import web

ANSWER_S = 0.02


class Stats(TypedDict):
    """What a control plane was asked.

    :ivar most_in_flight: requests that were under way at the same moment.
    :ivar writes: when each rollout's traffic was written, by its name, in seconds since the epoch.
    :ivar repeated: writes that were known by their key, and changed nothing.
    """

    requests: int
    most_in_flight: int
    writes: dict[str, list[float]]
    repeated: int


class ControlPlane:
    """Who serves each rollout; all of them start with half and half."""

    def __init__(self, answer_s: float = ANSWER_S) -> None:
        self.stats = Stats(requests=0, most_in_flight=0, writes={}, repeated=0)
        self._answer_s = answer_s
        self._in_flight = 0
        self._weights: dict[str, dict[str, float]] = {}
        self._keys: set[str] = set()

    def app(self) -> web.Application:
        """Return what serves it."""
        app = web.Application()
        app.router.add_get("/traffic/{name}", self._read)
        app.router.add_put("/traffic/{name}", self._write)
        app.router.add_get("/stats", self._say)
        return app

    async def _read(self, request: web.Request) -> web.Response:
        async with self._counted():
            return web.json_response({"weights": self._of(request.match_info["name"])})

    async def _write(self, request: web.Request) -> web.Response:
        async with self._counted():
            name, key = request.match_info["name"], request.headers.get("Idempotency-Key")
            if key is not None and key in self._keys:
                self.stats["repeated"] += 1
            else:
                self.stats["writes"].setdefault(name, []).append(time.time())
                self._weights[name] = (await request.json())["weights"]
                self._keys |= set() if key is None else {key}
            return web.json_response({"weights": self._of(name)})

    async def _say(self, _request: web.Request) -> web.Response:
        return web.json_response(self.stats)

    def _of(self, name: str) -> dict[str, float]:
        number = int(name)
        return self._weights.get(name, {f"release-{number:05}": 0.5, f"baseline-{number:05}": 0.5})

    @asynccontextmanager
    async def _counted(self) -> AsyncIterator[None]:
        self._in_flight += 1
        self.stats["requests"] += 1
        self.stats["most_in_flight"] = max(self.stats["most_in_flight"], self._in_flight)
        try:
            await asyncio.sleep(self._answer_s)
            yield
        finally:
            self._in_flight -= 1


if __name__ == "__main__":
    web.run_app(ControlPlane().app(), host="127.0.0.1", port=int(sys.argv[1]), print=None)
