"""What a task does when the ledger refuses: it fails at once, where an unavailable ledger is tried again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk.exceptions import AirflowFailException

from rollback_budget.exceptions import LedgerRuleError


@contextmanager
def fail_when_refused() -> Iterator[None]:
    """Fail the task without retries where the ledger refuses; each further try would be refused, too.

    :raises AirflowFailException: in the place of a LedgerRuleError.
    """
    try:
        yield
    except LedgerRuleError as error:
        raise AirflowFailException(f"the ledger refuses, and would refuse each retry: {error}") from error
