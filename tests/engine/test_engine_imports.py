"""The pure half stays pure."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.pure

HEAVY = ("airflow", "sqlalchemy", "numpy", "pandas", "pyarrow", "alembic", "requests", "aiohttp")


def test_budget_files_engine_and_replay_import_no_airflow_and_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "import rollback_budget.budget_file, rollback_budget.engine\n"
        "import rollback_budget.sources.recorded, rollback_budget.cli.main, rollback_budget.cli.replay\n"
        f"print(*(name for name in {HEAVY!r} if name in sys.modules))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.split() == []
