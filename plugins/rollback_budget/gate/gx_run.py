"""Running a suite with Great Expectations, in a process of its own.

Imports Great Expectations, so nothing but the gate's own process may import this.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from rollback_budget.text import plural

# Before the import: the library reads both when it is loaded, and writes two hundred lines otherwise.
os.environ["GX_ANALYTICS_ENABLED"] = "false"
logging.getLogger("great_expectations").setLevel(logging.WARNING)

import pandas as pd  # noqa: E402
from great_expectations.core.batch import Batch  # noqa: E402
from great_expectations.exceptions.exceptions import GreatExpectationsError  # noqa: E402
from great_expectations.execution_engine.pandas_execution_engine import PandasExecutionEngine  # noqa: E402
from great_expectations.execution_engine.sqlalchemy_batch_data import SqlAlchemyBatchData  # noqa: E402
from great_expectations.execution_engine.sqlalchemy_execution_engine import SqlAlchemyExecutionEngine  # noqa: E402
from great_expectations.expectations.expectation_configuration import (  # noqa: E402
    ExpectationConfiguration,
)
from great_expectations.expectations.metadata_types import FailureSeverity  # noqa: E402
from great_expectations.validator.validator import Validator  # noqa: E402

from rollback_budget.evals.result import Results  # noqa: E402
from rollback_budget.gate import gx_delta  # noqa: E402, F401 - makes the expectation known by its name
from rollback_budget.gate.rows import GateData, SqlRows  # noqa: E402
from rollback_budget.gate.suite import Check, ExpectationOutcome, Kind, OutcomeError, columns_of  # noqa: E402


class _QuietValidator(Validator):
    """Draws no progress bars into a log; the library takes that setting from a context only."""

    def _determine_progress_bars(self) -> bool:
        return False


def run_suite(checks: Sequence[Check], data: GateData) -> list[ExpectationOutcome]:
    """Run every expectation; one that cannot be run is an outcome with an error, never a success."""
    frame = frame_of(data.results)
    in_sql = [check for check in checks if check.kind is Kind.DELTA and data.sql is not None]
    in_memory = [check for check in checks if check not in in_sql]
    outcomes = _validate(in_memory, PandasExecutionEngine(), frame, set(frame.columns))
    if in_sql:
        assert data.sql is not None
        engine = SqlAlchemyExecutionEngine(engine=data.sql.engine)
        names = {column.name for column in data.sql.query.selected_columns}
        outcomes += _validate(in_sql, engine, _sql_data(engine, data.sql), names)
    return outcomes


def frame_of(results: Results) -> pd.DataFrame:
    """Return results as a frame; ``passed`` is 1 or 0, and NaN where it is not known."""
    cases = results.cases
    numbers = dict.fromkeys(name for case in cases for name in case.numbers)
    return pd.DataFrame(
        {
            "case_id": pd.Series([case.case_id for case in cases], dtype="object"),
            "release": pd.Series([case.release for case in cases], dtype="object"),
            "passed": pd.Series([case.passed for case in cases], dtype="float64"),
            "score": pd.Series([case.score for case in cases], dtype="float64"),
            "slice": pd.Series([case.slice for case in cases], dtype="object"),
            **{
                name: pd.Series([case.numbers.get(name) for case in cases], dtype="float64")
                for name in numbers
            },
        }
    )


def _sql_data(engine: SqlAlchemyExecutionEngine, rows: SqlRows) -> SqlAlchemyBatchData:
    # No temporary table: the gate needs no right to write.
    return SqlAlchemyBatchData(
        execution_engine=engine, selectable=rows.query.subquery("results"), create_temp_table=False
    )


def _validate(checks: Sequence[Check], engine: Any, data: Any, names: set[str]) -> list[ExpectationOutcome]:
    outcomes: list[ExpectationOutcome] = []
    configurations = []
    for check in checks:
        missing = [name for name in columns_of(check.config["kwargs"]) if name not in names]
        if missing:
            has = ", ".join(sorted(names))
            outcomes.append(
                _error_outcome(check, OutcomeError.COLUMN, f"no column {missing[0]!r} in the results ({has})")
            )
            continue
        try:
            # A suite silently drops unknown types, and all but one of expectations that differ only in meta.
            expectation = ExpectationConfiguration(
                type=check.config["type"],
                kwargs=dict(check.config["kwargs"]),
                meta=dict(check.config["meta"]),
                severity=FailureSeverity(check.severity),
            ).to_domain_obj()
        except GreatExpectationsError as error:
            outcomes.append(_error_outcome(check, OutcomeError.UNKNOWN, f"{check.config['type']}: {error}"))
        except Exception as error:
            outcomes.append(_error_outcome(check, OutcomeError.ERROR, f"{check.config['type']}: {error}"))
        else:
            configurations.append(expectation.configuration)
    if not configurations:
        return outcomes
    # Without a context: even an ephemeral one makes a folder for a site of documents, and leaves it there.
    validator = _QuietValidator(execution_engine=engine, batches=[Batch(data=data)])
    results = validator.graph_validate(
        configurations=configurations,
        runtime_configuration={
            "catch_exceptions": True,
            "result_format": {"result_format": "COMPLETE", "unexpected_index_column_names": ["case_id"]},
        },
    )
    by_id = {check.id: check for check in checks}
    # Results come back in another order.
    by_check = {
        result.expectation_config.meta["check"]: result for result in results if result.expectation_config
    }
    for configuration in configurations:
        check = by_id[configuration.meta["check"]]
        result = by_check.get(check.id)
        if result is None:
            outcomes.append(
                _error_outcome(check, OutcomeError.ERROR, "Great Expectations gave no result for it")
            )
        else:
            outcomes.append(_outcome(check, result, data))
    return outcomes


def _outcome(check: Check, result: Any, data: Any) -> ExpectationOutcome:
    raised = _raised(result.exception_info or {})
    if raised is not None:
        return _error_outcome(check, OutcomeError.ERROR, f"{check.config['type']}: {raised}")
    seen: Mapping[str, Any] = result.result
    if check.kind is Kind.PRESENT:
        return ExpectationOutcome(
            check.id, bool(result.success), () if result.success else tuple(_missing(check, data))
        )
    cases = tuple(dict.fromkeys(str(row["case_id"]) for row in seen.get("unexpected_index_list") or ()))
    details = seen.get("details") or {}
    detail = str(details.get("sentence", "")) if isinstance(details, Mapping) else ""
    if not detail and "observed_value" in seen:
        detail = f"observed {seen['observed_value']}"
    elif not detail and seen.get("unexpected_count"):
        detail = f"not met by {plural(seen['unexpected_count'], 'row')}"
    return ExpectationOutcome(check.id, bool(result.success), cases, detail)


def _missing(check: Check, frame: pd.DataFrame) -> list[str]:
    """Return the cases that the candidate has no row of; the library itself lists twenty at most."""
    kwargs = check.config["kwargs"]
    rows = frame["release"] == kwargs["row_condition"]["parameter"]
    there = set(frame.loc[rows, "case_id"])
    return [case for case in kwargs["value_set"] if case not in there]


def _raised(info: Mapping[str, Any]) -> str | None:
    """Return what was raised; the library nests it by metric when one failed."""
    for one in (info, *(value for value in info.values() if isinstance(value, Mapping))):
        if one.get("raised_exception"):
            return str(one.get("exception_message")).splitlines()[0]
    return None


def _error_outcome(check: Check, error: OutcomeError, detail: str) -> ExpectationOutcome:
    return ExpectationOutcome(check.id, success=False, detail=detail, error=error)
