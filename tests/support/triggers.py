"""Triggers in a process of their own, as a triggerer holds them, without the rest of Airflow.

Runs the real trigger on one event loop, with connections from the environment:
``python -m tests.support.triggers PLANS EVENTS`` reads one plan a line (JSON, beside its name), and writes
one line for each event: the name and the evaluation. It waits for PLANS once it is ready, and then
EVENTS exists.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import aiohttp  # noqa: F401

from rollback_budget.common.config import open_ledger
from rollback_budget.engine.evaluation import Evaluation
from rollback_budget.hooks.metric_source import open_shared_source  # noqa: F401
from rollback_budget.triggers.rollback_budget import RollbackBudgetTrigger
from rollback_budget.watch.watch_plan import WatchPlan
from tests.support.network import wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
#: Long ago, so that no event is held back for a task that has only just deferred.
DEFERRED_AT = "2020-01-01T00:00:00+00:00"
LIBFAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


class TriggerProcess:
    """A process that runs one trigger for each plan.

    :param environment: connections, and what else the process shall see.
    """

    def __init__(self, folder: Path, name: str, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._plans = folder / f"{name}.plans.jsonl"
        self._events = folder / f"{name}.events.jsonl"
        self._clock = folder / f"{name}.clock"
        self._expected: set[str] = set()
        self._environment = {
            "PATH": os.environ["PATH"],
            "AIRFLOW_HOME": str(folder / f"{name}.home"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "PYTHONUNBUFFERED": "1",
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def fake_clock(self, offset_s: float) -> None:
        """Let the process see another time of day, from now on; its monotonic clock is the machine's.

        To be called before :meth:`start` for the first time.
        """
        # Replaced in one piece: the process reads this file once a second.
        new = self._clock.with_suffix(".new")
        new.write_text(f"{offset_s:+.3f}\n")
        new.replace(self._clock)
        self._environment |= {
            "LD_PRELOAD": str(LIBFAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self._clock),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def start(self) -> None:
        """Start it, again too: its triggers then begin anew, as those of a dead triggerer do elsewhere."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.triggers", str(self._plans), str(self._events)],
                cwd=REPOSITORY,
                env=self._environment,
                stdout=log,
                stderr=log,
            )

    def wait_until_ready(self) -> None:
        """Wait until it needs nothing more than its plans."""
        wait_until(self._events.exists, within_s=90, what=f"{self.name} being ready")

    def wait_for_clock(self, offset_s: float) -> None:
        """Wait until it sees the time that :meth:`fake_clock` set, while it has no plans yet."""
        now = self._plans.with_suffix(".now")

        def seen() -> bool:
            text = now.read_text()
            return bool(text) and abs(float(text) - time.time() - offset_s) < 2

        wait_until(seen, within_s=30, what=f"{self.name} seeing another time")

    def watch(self, plans: Mapping[str, WatchPlan]) -> None:
        """Let it run one trigger for each plan, by name."""
        self._expected = set(plans)
        new = self._plans.with_suffix(".new")
        new.write_text(
            "".join(
                json.dumps({"name": name, "plan": plan.model_dump_json()}) + "\n"
                for name, plan in plans.items()
            )
        )
        new.replace(self._plans)

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(30)

    def stop(self) -> None:
        """End it if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def events(self) -> dict[str, Evaluation]:
        """Return what has fired so far."""
        lines = [json.loads(line) for line in self._events.read_text().splitlines()]
        return {line["name"]: Evaluation.model_validate(line["evaluation"]) for line in lines}

    def wait(self, within_s: float) -> dict[str, Evaluation]:
        """Return what the triggers fired, when all have, or at the latest after so long."""
        with suppress(AssertionError):
            wait_until(
                lambda: set(self.events()) >= self._expected, within_s=within_s, what="every trigger firing"
            )
        return self.events()


async def run_triggers(plans: Path, events: TextIO) -> None:
    """Run one trigger for each plan once there are plans, and write down what it fires."""
    # Not time.sleep, which under a clock that is set ends in an error of its own.
    now = plans.with_suffix(".now")
    while not plans.exists():
        now.write_text(str(time.time()))
        await asyncio.sleep(0.05)

    async def run(name: str, plan: str) -> None:
        trigger = RollbackBudgetTrigger(plan=plan, deferred_at=DEFERRED_AT)
        async for event in trigger.run():
            events.write(json.dumps({"name": name, **event.payload}) + "\n")
            events.flush()
            return

    lines = [json.loads(line) for line in plans.read_text().splitlines()]
    await asyncio.gather(*(run(line["name"], line["plan"]) for line in lines))


def main() -> None:
    """Run what stands in the file of plans."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    # A process is ready when it has loaded what every watch needs, as a triggerer has after its first one.
    open_ledger().migrate()
    plans = Path(sys.argv[1])
    with Path(sys.argv[2]).open("a") as events:
        asyncio.run(run_triggers(plans, events))


if __name__ == "__main__":
    main()
