"""What many rollouts say alike is held once."""

from __future__ import annotations

import gc

import pytest

from rollback_budget.model import interning as shared
from rollback_budget.model.interning import share
from rollback_budget.model.metric import Metric, MetricKind
from rollback_budget.model.source import PrometheusSource
from rollback_budget.model.spec import RolloutSpec
from tests.engine.builders import budget, rollout

pytestmark = pytest.mark.pure


def spec_of(release: str, threshold: float = 15.0) -> RolloutSpec:
    """A spec as a trigger gets it: nothing in it is another one's."""
    spec = rollout(
        budget(threshold=threshold),
        metrics={"p95": Metric(kind=MetricKind.GAUGE, query="p95{$matchers}")},
        source=PrometheusSource(conn_id="metrics"),
    )
    return RolloutSpec.model_validate_json(spec.model_copy(update={"release": release}).model_dump_json())


def test_rollouts_that_say_the_same_hold_it_once_and_mean_what_they_said() -> None:
    one, other = spec_of("v42"), spec_of("v43")
    shared_one, shared_other = share(one), share(other)
    assert (shared_one, shared_other) == (one, other)
    assert (shared_one.sha256, shared_other.sha256) == (one.sha256, other.sha256)
    assert shared_one.release != shared_other.release
    for part in ("watch", "analysis", "decision", "source"):
        assert getattr(shared_one, part) is getattr(shared_other, part)
    assert shared_one.budgets[0] is shared_other.budgets[0]
    assert shared_one.metrics["p95"] is shared_other.metrics["p95"]


def test_rollouts_that_differ_in_one_number_keep_it_apart() -> None:
    one, other = share(spec_of("v42", 15.0)), share(spec_of("v42", 15.5))
    assert [spec.budgets[0].threshold for spec in (one, other)] == [15.0, 15.5]
    assert one.watch is other.watch


def test_nothing_is_held_for_rollouts_that_are_over() -> None:
    held = share(spec_of("v42", 77.0))
    parts = len(shared._held)
    del held
    gc.collect()
    assert len(shared._held) < parts
