"""Fingerprints: what makes two breaches, or two debts, one and the same.

A fingerprint is the SHA-256 (hex) of a JSON array of its parts, headed by its kind. JSON quotes every part,
so no name can hold a separator that makes two different lists of parts look alike, and a missing slice
(``null``) differs from every slice's name.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime

from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.model.budget import Comparison


def debt_fingerprint(
    service: str,
    area: str,
    metric: str,
    comparison: Comparison,
    slice: str | None,  # noqa: A002 - the design's word
) -> str:
    """Return what names an eval debt: the same weakness of the same service, in whatever release it shows."""
    return _digest("debt", service, area, metric, Comparison(comparison).value, slice)


def breach_fingerprint(key: RolloutKey, budget: str, breached_at: datetime) -> str:
    """Return what names a breach: this budget of this rollout, used up at this time (aware)."""
    moment = breached_at.astimezone(UTC).isoformat(timespec="microseconds")
    return _digest("breach", key.dag_id, key.run_id, budget, moment)


def _digest(*parts: str | None) -> str:
    return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()
