"""What rollouts cost while Airflow parses DAGs: imports, and 100 budgets beside 100 plain DAGs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

from bench.figure import Figure, best_of

TITLE = "Parsing DAGs"
RUNS = 7
DAGS = 100
HEAVY = ("great_expectations", "pandas", "altair", "numpy", "pyarrow", "alembic")
MINIMAL = Path(__file__).resolve().parents[1] / "budgets"

#: What a plain DAG file imports, and what ours import.
PLAIN = "from airflow.sdk import DAG; from airflow.providers.standard.operators.empty import EmptyOperator"
OURS = f"{PLAIN}; import rollback_budget.dags.rollout, rollback_budget.dags.eval_debt"

PROBE = """
import json, resource, sys, time
begun = time.process_time()
{imports}
used = time.process_time() - begun
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([used, peak, [name for name in {heavy} if name in sys.modules]]))
"""


def measure() -> list[Figure]:
    """Import in fresh processes, taking turns; build DAGs in this one, taking turns."""
    with tempfile.TemporaryDirectory() as home:
        os.environ.setdefault("AIRFLOW_HOME", home)
        seconds, mebibytes, heavy = _imports(home)
        ratio, tasks = _parsing(Path(home))
    return [
        Figure("importing what a DAG file imports, CPU over a plain DAG file's", seconds, "s", 0.15),
        Figure("peak memory over a plain DAG file's", mebibytes, "MiB", 15),
        Figure(f"heavy modules loaded by it ({', '.join(HEAVY)})", len(heavy), "modules", 0),
        Figure(
            f"{DAGS} budgets into DAGs of {tasks} tasks, over plain DAGs of as many empty ones", ratio, "×", 3
        ),
    ]


def _imports(home: str) -> tuple[float, float, list[str]]:
    """Return the medians of what our imports cost on top, run by run, and the heavy modules among them."""
    pairs = [(_probe(PLAIN, home), _probe(OURS, home)) for _ in range(RUNS)]
    seconds = median(ours[0] - plain[0] for plain, ours in pairs)
    mebibytes = median(ours[1] - plain[1] for plain, ours in pairs)
    return seconds, mebibytes, pairs[0][1][2]


def _probe(imports: str, home: str) -> tuple[float, float, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(imports=imports, heavy=HEAVY)],
        env={"PATH": os.environ["PATH"], "AIRFLOW_HOME": home},
        capture_output=True,
        text=True,
        check=True,
    )
    used, peak, heavy = json.loads(done.stdout.splitlines()[-1])
    return used, peak, heavy


def _parsing(folder: Path) -> tuple[float, int]:
    from airflow.providers.standard.operators.empty import EmptyOperator
    from airflow.sdk import DAG

    from rollback_budget.dags.rollout import rollout_dags

    shutil.copy(MINIMAL / "defaults.yaml", folder)
    for number in range(DAGS):
        shutil.copy(MINIMAL / "model-v42.yaml", folder / f"model-{number}.yaml")
    tasks = len(next(rollout_dags(folder)).tasks)

    def plain() -> None:
        for number in range(DAGS):
            with DAG(f"plain_{number}", schedule=None):
                previous = None
                for task in range(tasks):
                    operator = EmptyOperator(task_id=f"task_{task}")
                    if previous is not None:
                        previous >> operator
                    previous = operator

    def ours() -> None:
        assert len(list(rollout_dags(folder))) == DAGS

    rounds: list[Callable[[], object]] = [plain, ours]
    best = [
        min(times) for times in zip(*([best_of(1, run) for run in rounds] for _ in range(9)), strict=True)
    ]
    return best[1] / best[0], tasks
