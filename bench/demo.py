"""From the breaching sample to the rollback request, in real runs of the demo on a real Airflow."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from bench.figure import Figure

TITLE = "demo: real rollouts on a real Airflow"
RUNS = 3


def measure() -> list[Figure]:
    """Run the demo a few times, one after the other."""
    outcomes = [outcome for _ in range(RUNS) for outcome in _run()]
    figures = [Figure("poll interval of its watches", outcomes[0]["poll_s"], "s")]
    for name, what in (("incident", "tier A"), ("slide", "tier B, the commander's answer included")):
        runs = [outcome for outcome in outcomes if name in outcome["rollout"]]
        for key, end in (
            ("sample_to_request_s", "rollback request"),
            ("sample_to_verified_s", "verified rollback"),
        ):
            seconds = [run[key] for run in runs]
            figures += [
                Figure(f"{what}: breaching sample to {end}, median of {len(runs)}", median(seconds), "s"),
                Figure(f"{what}: breaching sample to {end}, worst of {len(runs)}", max(seconds), "s"),
            ]
    return figures


def _run() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        subprocess.run(
            [sys.executable, "-m", "demo", "--json", str(file)], check=True, stdout=subprocess.DEVNULL
        )
        found: list[dict[str, Any]] = json.loads(file.read_text())
        return found
