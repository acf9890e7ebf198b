"""Evaluation results in a table, on a real SQLite and a real PostgreSQL."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, text

from rollback_budget.evals.read import Columns
from rollback_budget.evals.result import CaseResult
from rollback_budget.evals.table import read_table
from rollback_budget.exceptions import EvalError

pytestmark = pytest.mark.database


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: object) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/results.db"
    return str(request.getfixturevalue("postgres_url"))


def test_a_table_gives_the_rows_of_the_named_releases_only(url: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE results (id TEXT, release TEXT, passed BOOLEAN, score FLOAT)"))
        connection.execute(
            text("INSERT INTO results VALUES (:id, :release, :passed, :score)"),
            [
                {"id": "c2", "release": "v42", "passed": None, "score": None},
                {"id": "c1", "release": "v42", "passed": True, "score": 0.5},
                {"id": "c1", "release": "v41", "passed": False, "score": 0.25},
                {"id": "c1", "release": "v40", "passed": False, "score": 0.25},
            ],
        )
    columns = Columns(case_id="id")
    results = read_table(engine, "results", ["v42", "v41"], columns=columns)
    assert results.cases == (
        CaseResult("c1", "v41", False, 0.25),
        CaseResult("c1", "v42", True, 0.5),
        CaseResult("c2", "v42", None),
    )
    assert results.digest == read_table(engine, "results", ["v41", "v42"], columns=columns).digest
    assert results.digest != read_table(engine, "results", ["v41"], columns=columns).digest
    assert read_table(engine, "results", ["'; DROP TABLE results; --"], columns=columns).cases == ()
    with pytest.raises(EvalError, match="the column 'case_id' is missing; it has 'id'"):
        read_table(engine, "results", ["v42"])
    with pytest.raises(EvalError, match="there is no table elsewhere"):
        read_table(engine, "elsewhere", ["v42"])
