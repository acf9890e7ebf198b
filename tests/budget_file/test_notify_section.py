from __future__ import annotations

from pathlib import Path

import pytest

from rollback_budget.budget_file import load_budget
from rollback_budget.exceptions import SpecError
from rollback_budget.model.notify import BY_DEFAULT, Event, Notify
from rollback_budget.model.spec import RolloutSpec

pytestmark = pytest.mark.pure

GOOD = """\
release: new
baseline: old
window: 24h
rollback_budget:
  latency: {p95_delta_pct: 15, max_duration_min: 30}
notify:
  - notifier: slack
    conn_id: oncall
    args: {channel: "#llm"}
    events: [breach, review_opened]
  - {notifier: email, conn_id: mail, args: {to: [a@example.com]}}
  - {notifier: my_team.Sms, args: {number: "112"}, events: deadline_near}
"""


def test_notifiers_are_frozen_and_subscribe_to_all_but_the_daily_list_by_default(tmp_path: Path) -> None:
    path = tmp_path / "new.yaml"
    path.write_text(GOOD)
    spec = load_budget(path)
    slack, email, sms = spec.notify
    assert slack == Notify(
        notifier="slack",
        conn_id="oncall",
        args={"channel": "#llm"},
        events=(Event.BREACH, Event.REVIEW_OPENED),
    )
    assert (email.events, sms.events) == (BY_DEFAULT, (Event.DEADLINE_NEAR,))
    assert RolloutSpec.model_validate_json(spec.canonical_json()) == spec


@pytest.mark.parametrize(
    ("old", "new", "place", "says"),
    [
        ("notifier: slack\n", "notifier: slak\n", (7, 15), "did you mean slack?"),
        ("    conn_id: oncall\n", "", (7, 5), "`conn_id` is missing"),
        ('channel: "#llm"', "blocks: x", (9, 11), "`args.channel` is missing"),
        ("[breach, review_opened]", "[breach, review_open]", (10, 13), "did you mean review_opened?"),
        ("events: deadline_near", "events: []", (12, 60), "must be a list of"),
        ("args: {number", "conn_id: sms, args: {number", (12, 38), "put its connection into `args`"),
        ("events: deadline_near", "only: breach", (12, 52), 'unknown key "only"'),
    ],
)
def test_what_is_wrong_with_a_notifier_is_said_at_its_place(
    tmp_path: Path, old: str, new: str, place: tuple[int, int], says: str
) -> None:
    path = tmp_path / "new.yaml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(SpecError) as caught:
        load_budget(path)
    (problem,) = caught.value.problems
    assert says in problem.message, problem
    assert (problem.line, problem.column) == place, problem
