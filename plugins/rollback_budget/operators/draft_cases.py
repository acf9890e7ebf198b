"""The task that turns the failing requests of new debts into drafts of eval cases."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk import BaseOperator

from rollback_budget.clock import utc_now
from rollback_budget.common.config import cases_folder, open_ledger
from rollback_budget.exceptions import CaseError, RollbackBudgetError
from rollback_budget.hooks.case_source import read_failing
from rollback_budget.text import plural

if TYPE_CHECKING:
    from airflow.sdk import Context

    from rollback_budget.ledger.debt_views import Debt

#: Content may reach its store minutes or hours after the request; a stub is tried again for as long.
LATE = timedelta(days=1)


class DraftCasesOperator(BaseOperator):
    """
    Drafts eval cases for every debt that has none, and records in the ledger what changed in case files.

    A source that cannot be reached fails this task once every other debt is done; its last try leaves a stub
    that says what to bring, and the next runs go on trying for a day. No ticket ever waits for it.
    """

    ui_color = "#e8e8f8"

    def execute(self, context: Context) -> list[str]:
        """Return what was drafted now. Raises CaseError naming every debt that could not be."""
        from rollback_budget.cases.folder import CaseFolder
        from rollback_budget.debt.drafting import draft_debt, sync_folder
        from rollback_budget.debt.state_machine import UNDRAFTED

        ti = context["ti"]
        by, ledger, folder = f"{ti.dag_id}/{ti.task_id}", open_ledger(), CaseFolder(cases_folder())
        drafted: list[str] = []
        errors: list[str] = []
        for debt in ledger.debts.in_states(UNDRAFTED):
            try:
                if _has_old_stub(folder.cases_of(debt), debt):
                    continue
                is_last = ti.try_number > ti.max_tries
                done = draft_debt(ledger, folder, debt, read_failing, by=by, at=utc_now(), retry=not is_last)
            except RollbackBudgetError as error:
                self.log.exception("the debt %s has no cases yet", debt.fingerprint)
                errors.append(f"{debt.budget} of {debt.service} ({debt.fingerprint[:16]}): {error}")
                continue
            if done.why is not None:
                self.log.warning("%s: a stub instead of cases. %s", debt.budget, done.why)
            self.log.info("%s: %s in %s", debt.budget, plural(len(done.added), "new case"), done.file)
            drafted.append(f"{debt.fingerprint}: {len(done.added)} new, {done.there} in {done.file.name}")
        for changed in sync_folder(ledger, folder, by=by, at=utc_now()):
            self.log.info("%s is %s", changed.budget, changed.state.value)
        if errors:
            raise CaseError("no cases could be drafted for:\n" + "\n".join(errors))
        return drafted


def _has_old_stub(cases: tuple[object, ...], debt: Debt) -> bool:
    """Whether it was said long enough that there is no content; bringing it is up to people."""
    return bool(cases) and utc_now() - debt.last_breach_at > LATE
