"""Runs one rollout by ``DAG.test``: a process of its own, in which Acme's package is installed.

Called with the folder that holds ``budget.yaml``; Airflow's own settings come from the environment.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from airflow.utils.db import initdb

from rollback_budget.common.config import open_ledger
from tests.extensions.acme_service import AcmeService


def main(folder: Path) -> None:
    initdb()
    open_ledger().migrate()
    with AcmeService(folder / "router.json", folder / "dashboard.jsonl"):
        # The file of the DAG: Airflow finds it in the folder, this process by its path.
        from acme_dag import dag

        run = dag.test()
    states = {task.task_id: str(task.state) for task in run.get_task_instances()}
    (folder / "outcome.json").write_text(json.dumps({"run": str(run.state), "tasks": states}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
