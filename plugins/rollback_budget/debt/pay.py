"""Paying a debt by a judged proof, and which releases the proof's results speak of."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rollback_budget.debt.changes import advance_state
from rollback_budget.debt.proof import Proof, Releases
from rollback_budget.evals.result import Results
from rollback_budget.exceptions import EvalError
from rollback_budget.ledger.debt_views import Debt, DebtState
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.text import plural


def pay(ledger: Ledger, proof: Proof, by: str, now: datetime) -> Debt:
    """Keep a proof and, where it is accepted, let its debt be proven and paid; return the debt afterwards.

    Repeating it changes nothing: the same proof is kept once, and pays once.

    :raises TransitionNotAllowedError: the debt is a duplicate, which pays nothing by itself; or this proof
        paid before, and the debt breached again since.
    """
    ledger.proofs.add(proof.record(by, now))
    if not proof.is_accepted:
        debt = ledger.debts.get(proof.debt_fingerprint)
        assert debt is not None
        return debt
    cases = plural(len(proof.cases), "case")
    how = f"{cases} red on {proof.breached_release}, green on {proof.candidate_release}"
    advance_state(ledger.debts, proof.debt_fingerprint, DebtState.PROVEN, by=by, at=now, detail=how)
    return advance_state(
        ledger.debts,
        proof.debt_fingerprint,
        DebtState.PAID,
        by=by,
        at=now,
        detail=f"proof {proof.digest[:16]}",
    )


def breached_release(results: Results, named: str | None, releases: Releases) -> str:
    """Return the release that must be red: the one named, else the newest breached one in the results.

    :raises EvalError: the results do not hold it.
    """
    held = _releases(results)
    if named is not None:
        return _held(results, named, held)
    found = next((release for release in releases.red if release in held), None)
    if found is None:
        raise EvalError(
            f"{results.origin}: holds results of {', '.join(held)}, and the debt breached on"
            f" {', '.join(releases.red)}; run its cases on one of these"
        )
    return found


def candidate_release(results: Results, named: str | None, releases: Releases) -> str:
    """Return the release that must be green: the one named, else the only one that can be meant.

    :raises EvalError: the results do not hold it, or hold several.
    """
    held = _releases(results)
    if named is not None:
        return _held(results, named, held)
    others = [one for one in held if one not in releases.ever]
    # The gate's results hold the baseline too; it is not the fix.
    possible = [one for one in others if one not in releases.baselines] or others or held
    if len(possible) > 1:
        raise EvalError(
            f"{results.origin}: holds results of {', '.join(possible)}; say which with --candidate-release"
        )
    return possible[0]


def _releases(results: Results) -> list[str]:
    return list(dict.fromkeys(case.release for case in results.cases))


def _held(results: Results, named: str, held: Sequence[str]) -> str:
    if named not in held:
        raise EvalError(f"{results.origin}: holds no results of {named!r}, but of {', '.join(held)}")
    return named
