"""The shares of traffic that a rollout gives its two versions."""

from __future__ import annotations

from collections.abc import Mapping

from rollback_budget.model.spec import RolloutSpec


def shares_of(spec: RolloutSpec, share: float) -> dict[str, float]:
    """Return both versions' shares when the release has ``share``."""
    return {spec.release: share, spec.baseline: 1.0 - share}


def shares_left(spec: RolloutSpec, shipped: Mapping[str, float] | None) -> list[Mapping[str, float]] | None:
    """Return every state of the traffic that a rollout may have left; None when it is not known.

    :param shipped: what the release was shipped with; None when it is not known.
    """
    if shipped is None:
        return None
    stages = spec.target.ramp if spec.target is not None and spec.target.stages else ()
    return [shipped, *(shares_of(spec, share) for share in stages)]
