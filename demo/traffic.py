"""What users experience: simulated requests, drawn from a seed, routed by weights, and logged into SQLite."""

from __future__ import annotations

import math
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

from demo.conversation import answer, conversation
from demo.router import Router

TICK_S = 0.1
#: A version that hands over more than this has the fault that makes it do so.
CONFUSED_ABOVE = 0.2

SCHEMA = """
CREATE TABLE IF NOT EXISTS requests (
    ts REAL NOT NULL,
    version TEXT NOT NULL,
    success INTEGER NOT NULL,
    latency_s REAL NOT NULL,
    handoff INTEGER NOT NULL,
    incident INTEGER NOT NULL,
    trace_id TEXT NOT NULL,
    input TEXT NOT NULL,
    output TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS requests_by_ts ON requests (ts);
"""


@dataclass(frozen=True)
class Behaviour:
    """How one version answers.

    :param success: probability that the task succeeds.
    :param latency_s: median latency in seconds, log-normal with ``latency_sigma``.
    :param handoff: probability that the request is handed to a human.
    :param incident: probability of a high-severity incident.
    """

    success: float = 0.97
    latency_s: float = 0.8
    latency_sigma: float = 0.3
    handoff: float = 0.05
    incident: float = 0.0

    def __post_init__(self) -> None:
        for name in ("success", "handoff", "incident"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be a probability between 0 and 1, not {getattr(self, name)}")
        if not (0 < self.latency_s < math.inf and 0 <= self.latency_sigma < math.inf):
            raise ValueError("latency_s must be positive and latency_sigma not negative")

    def towards(self, other: Behaviour, fraction: float) -> Behaviour:
        """Return the behaviour ``fraction`` of the way to ``other``."""
        mixed = {
            field.name: getattr(self, field.name) * (1 - fraction) + getattr(other, field.name) * fraction
            for field in fields(self)
        }
        return replace(self, **mixed)


@dataclass(frozen=True)
class Course:
    """A behaviour on its way to another: linear from ``began_at`` (epoch seconds) for ``ramp_s`` seconds."""

    start: Behaviour
    end: Behaviour
    began_at: float = 0.0
    ramp_s: float = 0.0

    def at(self, moment: float) -> Behaviour:
        """Return the behaviour at ``moment`` in epoch seconds."""
        if self.ramp_s <= 0:
            return self.end
        fraction = (moment - self.began_at) / self.ramp_s
        return self.start.towards(self.end, min(max(fraction, 0.0), 1.0))


@dataclass(frozen=True)
class Request:
    """One row of the log, in the order of its columns; ``ts`` is the arrival in epoch seconds."""

    ts: float
    version: str
    success: bool
    latency_s: float
    handoff: bool
    incident: bool
    trace_id: str
    input: str
    output: str


class RequestLog:
    """The table ``requests`` in a SQLite file; WAL, so that readers never wait for the writer.

    :param watch: called with all requests, too.

    :raises sqlite3.Error: when the file cannot be written.
    """

    def __init__(self, database: Path, watch: Callable[[Iterable[Request]], None] | None = None) -> None:
        self._lock = threading.Lock()
        self._watch = watch
        self._connection = sqlite3.connect(database, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")
        self._connection.executescript(SCHEMA)

    def append(self, requests: Iterable[Request]) -> None:
        """Write ``requests`` in one transaction."""
        requests = list(requests)
        if self._watch is not None:
            self._watch(requests)
        rows = [astuple(request) for request in requests]
        with self._lock, self._connection:
            self._connection.executemany("INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()


class Traffic:
    """Simulated users: evenly spaced requests whose every outcome follows from the seed.

    :param rate: requests per second over all versions.
    """

    def __init__(
        self, router: Router, behaviours: Mapping[str, Behaviour], *, rate: float, seed: int, began_at: float
    ) -> None:
        self._router = router
        self._lock = threading.Lock()
        self._courses = {version: Course(behaviour, behaviour) for version, behaviour in behaviours.items()}
        self._random = random.Random(seed)
        self._rate = rate
        self._began_at = began_at
        self._count = 0
        self._drawn = 0

    def steer(
        self, version: str, behaviour: Behaviour, *, ramp_s: float = 0.0, now: float | None = None
    ) -> None:
        """Let ``version`` slide from how it answers now to ``behaviour`` within ``ramp_s`` seconds.

        :raises KeyError: when the version is not known.
        """
        moment = time.time() if now is None else now
        with self._lock:
            self._courses[version] = Course(self._courses[version].at(moment), behaviour, moment, ramp_s)

    def behaviour(self, version: str, now: float | None = None) -> Behaviour:
        """Return how ``version`` answers now.

        :raises KeyError: when the version is not known.
        """
        with self._lock:
            return self._courses[version].at(time.time() if now is None else now)

    def draw_until(self, moment: float) -> list[Request]:
        """Return the requests that arrived since the last call, up to ``moment`` in epoch seconds."""
        due = int((moment - self._began_at) * self._rate)
        requests = []
        while self._count < due:
            self._count += 1
            requests.append(self.draw(self._began_at + self._count / self._rate))
        return requests

    def draw(self, moment: float) -> Request:
        """Return one request that arrives at ``moment`` and goes where the applied weights send it."""
        weights = self._router.applied
        with self._lock:
            version = self._random.choices(list(weights), list(weights.values()))[0]
            behaviour = self._courses[version].at(moment)
            success = self._random.random() < behaviour.success
            latency_s = self._random.lognormvariate(math.log(behaviour.latency_s), behaviour.latency_sigma)
            handoff = self._random.random() < behaviour.handoff
            incident = self._random.random() < behaviour.incident
            self._drawn += 1
            asked, answered = conversation(self._drawn, success=success, handoff=handoff, incident=incident)
            return Request(
                ts=moment,
                version=version,
                success=success,
                latency_s=latency_s,
                handoff=handoff,
                incident=incident,
                trace_id=f"{version}-{self._drawn}",
                input=asked,
                output=answered,
            )

    def answer(self, version: str, text: str, now: float | None = None) -> str:
        """Return what ``version`` answers to ``text`` now, faults and all; the same text, the same answer.

        :raises KeyError: when the version is not known.
        """
        behaviour = self.behaviour(version, now)
        return answer(text, is_risky=behaviour.incident > 0, is_confused=behaviour.handoff > CONFUSED_ABOVE)


class LoadGenerator:
    """A thread that draws traffic and logs it until it is stopped."""

    def __init__(self, traffic: Traffic, log: RequestLog) -> None:
        self._traffic = traffic
        self._log = log
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load-generator", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(TICK_S):
            self._log.append(self._traffic.draw_until(time.time()))
