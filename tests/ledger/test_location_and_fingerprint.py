from __future__ import annotations

import hashlib
import subprocess
import sys
from datetime import timedelta, timezone
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollback_budget.ledger.fingerprint import breach_fingerprint, debt_fingerprint
from rollback_budget.ledger.url import ledger_url
from rollback_budget.model.budget import Comparison
from tests.support.rollouts import KEY, NOON

pytestmark = pytest.mark.pure


def test_the_ledger_is_where_the_nearest_setting_says(tmp_path: Path) -> None:
    environ = {"AIRFLOW_HOME": str(tmp_path)}
    assert ledger_url(environ) == f"sqlite:///{tmp_path}/rollback_budget.db"
    (tmp_path / "airflow.cfg").write_text(
        "[core]\nfernet_key = %(x)s\n[rollback_budget]\nsql_alchemy_conn = postgresql://u:p%%40w@h/db\n"
    )
    assert ledger_url(environ) == "postgresql://u:p%40w@h/db"
    environ["AIRFLOW__ROLLBACK_BUDGET__SQL_ALCHEMY_CONN"] = "sqlite:////airflow.db"
    assert ledger_url(environ) == "sqlite:////airflow.db"
    environ["ROLLBACK_BUDGET_LEDGER"] = "sqlite:////own.db"
    assert ledger_url(environ) == "sqlite:////own.db"


def test_a_debts_fingerprint_is_the_documented_one() -> None:
    documented = b'["debt","bot","latency","p95","delta_pct",null]'
    fingerprint = debt_fingerprint("bot", "latency", "p95", Comparison.DELTA_PCT, None)
    assert fingerprint == hashlib.sha256(documented).hexdigest()


def test_parts_that_run_into_each_other_are_different_debts() -> None:
    parts = [("a", "b.c", "m"), ("a.b", "c", "m"), ('a","b', "c", "m"), ("a", "b", "c.m"), ("a,b", "c", "m")]
    prints = [debt_fingerprint(*three, Comparison.DELTA, None) for three in parts]
    prints += [debt_fingerprint("a", "b", "c", Comparison.DELTA, slice_) for slice_ in (None, "null", "")]
    assert all(one != other for one, other in combinations(prints, 2))


@given(st.lists(st.text(), min_size=4, max_size=4), st.lists(st.text(), min_size=4, max_size=4))
def test_only_equal_parts_make_equal_fingerprints(one: list[str], other: list[str]) -> None:
    prints = [debt_fingerprint(a, b, c, Comparison.ABOVE, d) for a, b, c, d in (one, other)]
    assert (prints[0] == prints[1]) == (one == other)


def test_a_breach_is_the_same_in_every_time_zone() -> None:
    abroad = NOON.astimezone(timezone(timedelta(hours=-8)))
    assert breach_fingerprint(KEY, "b", NOON) == breach_fingerprint(KEY, "b", abroad)
    assert breach_fingerprint(KEY, "b", NOON) != breach_fingerprint(KEY, "b", NOON + timedelta(seconds=1))


def test_ledger_and_debt_import_neither_airflow_nor_anything_heavy() -> None:
    program = (
        "import sys; import rollback_budget.tickets.sync.filing, rollback_budget.tickets.jira.tracker;"
        " import rollback_budget.tickets.markdown, rollback_budget.debt.log, rollback_budget.cli.debt.group;"
        " print({'airflow', 'alembic', 'jira', 'requests', 'pandas', 'numpy'} & set(sys.modules))"
    )
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert output.stdout.strip() == "set()"
