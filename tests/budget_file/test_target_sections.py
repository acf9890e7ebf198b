"""The target section: its types, stages and versions, and what is wrong with them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from rollback_budget.budget_file import load_budget, warnings
from rollback_budget.exceptions import SpecError
from rollback_budget.model.spec import Concurrent, RolloutSpec
from rollback_budget.model.target import Stage

pytestmark = pytest.mark.pure

RULE = "release: v2\nbaseline: v1\nwindow: 4h\nrollback_budget: {a: {p95_delta_pct: 15, max_duration: 20m}}\n"
MLFLOW = "target: {type: mlflow, conn_id: c, model: m, "
UNLEASH = "target: {type: unleash, conn_id: c, flag: f, "


def load(folder: Path, text: str) -> RolloutSpec:
    (folder / "budget.yaml").write_text(RULE + text)
    return load_budget(folder / "budget.yaml")


def test_shares_are_fractions_or_percentages_and_versions_may_be_numbers(tmp_path: Path) -> None:
    text = (
        UNLEASH
        + "versions: {v2: 7}, ship_share: 50%, stages: [{traffic: 5%, hold: 1h}]}\nconcurrent: queue\n"
    )
    spec = load(tmp_path, text)
    assert spec.target is not None
    assert spec.target.stages == (Stage(traffic=0.05, hold=timedelta(hours=1)),)
    assert (spec.target.ramp, spec.target.versions) == ((0.05, 0.5), {"v2": "7"})
    assert (spec.concurrent, spec.has_stages) == (Concurrent.QUEUE, True)
    assert RolloutSpec.model_validate_json(spec.canonical_json()) == spec


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (UNLEASH + "stages: [{traffic: 60%, hold: 1h}]}", "goes from 60 % to 50 %; stages climb"),
        (UNLEASH + "stages: [{traffic: 5%, hold: 5h}]}", "hold for 5h together, the window is 4h"),
        (UNLEASH + "stages: [{traffic: 0%, hold: 1h}]}", "is 0 % of the traffic"),
        (UNLEASH + "stages: [{traffic: 5, hold: 1h}]}", "is 500 % of the traffic; write more than 0%"),
        (UNLEASH + "flog: g}", "did you mean `flag`?"),
        ("target: {type: kserve}", "is http (meant where it is left out), mlflow, unleash or flagd"),
        ("target: {type: mlflow, conn_id: c, model: m}", "an alias alone has all traffic or none"),
        (
            MLFLOW + "candidate_alias: champion}",
            "`candidate_alias` is the same as `alias`",
        ),
        (
            MLFLOW + "candidate_alias: b, stages: [{traffic: 1%, hold: 1h}]}",
            "an alias holds no shares of traffic",
        ),
    ],
)
def test_what_cannot_be_is_said_at_its_place(tmp_path: Path, target: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        load(tmp_path, target)
    [problem] = caught.value.problems
    assert said in problem.message
    assert problem.line == 5


def test_traffic_that_leaves_too_little_to_decide_on_is_warned_of(tmp_path: Path) -> None:
    all_of_it = load(tmp_path, UNLEASH + "ship_share: 100%}")
    assert any("leaves v1 no traffic to compare with" in warning for warning in warnings(all_of_it))
    hasty = load(tmp_path, UNLEASH + "stages: [{traffic: 5%, hold: 5m}]}")
    assert any("a stage holds for 5m and a budget takes 20m" in warning for warning in warnings(hasty))
