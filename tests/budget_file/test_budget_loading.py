"""What a budget file means once it is frozen."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rollback_budget.budget_file import find_budgets, load_budget, preflight_problems, rollout_name, warnings
from rollback_budget.exceptions import SpecError
from rollback_budget.model.budget import Accounting, Comparison, Method, Severity, Tier, Worse
from rollback_budget.model.decision import Action, OnTimeout
from rollback_budget.model.duration import DURATION_PATTERN, parse_duration, write_duration
from rollback_budget.model.source import SqlSource
from rollback_budget.model.spec import Commander, RolloutSpec

pytestmark = pytest.mark.pure

MINIMAL = """\
release: model-v42
baseline: model-v41
window: 24h

rollback_budget:
  quality:
    task_success_delta_pct: -2.0
    max_duration_min: 20
  safety:
    high_severity_incidents_increase: 0
    action: immediate_rollback
  latency:
    p95_delta_pct: +15
    max_duration_min: 30
  escalation:
    human_handoff_delta_pct: +8
    max_duration_min: 20

decision:
  tier_a_breach: auto_rollback
  tier_b_breach: incident_commander_decision_within_15m
"""

Load = Callable[..., RolloutSpec]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Write a budget file and load it."""

    def write_and_load(text: str, name: str = "budget.yaml") -> RolloutSpec:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return load_budget(path)

    return write_and_load


def rule(budgets: str, more: str = "") -> str:
    """Return a budget file with these lines under one area."""
    body = "\n".join("    " + line for line in budgets.splitlines())
    return f"release: new\nbaseline: old\nwindow: 24h\nrollback_budget:\n  area:\n{body}\n{more}"


def test_minimal_file_loads_verbatim(load: Load) -> None:
    spec = load(MINIMAL)
    assert (spec.release, spec.baseline, spec.window) == ("model-v42", "model-v41", timedelta(hours=24))
    assert [(b.id, b.threshold, b.worse, b.max_duration, b.tier, b.min_samples) for b in spec.budgets] == [
        ("quality.task_success_delta_pct", -2.0, Worse.LOWER, timedelta(minutes=20), Tier.B, 1),
        ("safety.high_severity_incidents_increase", 0.0, Worse.HIGHER, timedelta(0), Tier.A, 0),
        ("latency.p95_delta_pct", 15.0, Worse.HIGHER, timedelta(minutes=30), Tier.B, 1),
        ("escalation.human_handoff_delta_pct", 8.0, Worse.HIGHER, timedelta(minutes=20), Tier.B, 1),
    ]
    assert [b.severity for b in spec.budgets][:2] == [Severity.MAJOR, Severity.CRITICAL]
    assert spec.decision.of(Tier.A).action is Action.AUTO_ROLLBACK
    assert spec.decision.of(Tier.B).within == timedelta(minutes=15)
    assert spec.max_overrides == 2
    assert (spec.owner, spec.service, spec.source, spec.target) == (None, "default", None, None)


def test_the_budget_of_this_repository_is_the_minimal_file_and_could_ship() -> None:
    folder = Path(__file__).parents[2] / "budgets"
    assert (folder / "model-v42.yaml").read_text(encoding="utf-8") == MINIMAL
    spec = load_budget(folder / "model-v42.yaml")
    assert preflight_problems(spec) == []
    assert warnings(spec) == []


def test_frozen_spec_round_trips_and_its_digest_follows_its_meaning(load: Load) -> None:
    spec = load(MINIMAL)
    again = RolloutSpec.model_validate(json.loads(spec.canonical_json()))
    assert again == spec
    assert again.sha256 == spec.sha256
    assert load(MINIMAL + "\n# a comment\n").sha256 == spec.sha256
    assert load(MINIMAL.replace("24h", "1d")).sha256 == spec.sha256
    assert load(MINIMAL.replace("+15", "+16")).sha256 != spec.sha256


@pytest.mark.parametrize(
    ("key", "comparison", "worse"),
    [
        ("p95_delta_pct: 15", Comparison.DELTA_PCT, Worse.HIGHER),
        ("p95_delta_pp: -2", Comparison.DELTA_PP, Worse.LOWER),
        ("p95_delta: 0.02", Comparison.DELTA, Worse.HIGHER),
        ("p95_increase: 3", Comparison.INCREASE, Worse.HIGHER),
        ("p95_above: 8", Comparison.ABOVE, Worse.HIGHER),
        ("p95_below: 0", Comparison.BELOW, Worse.LOWER),
    ],
)
def test_every_comparison_follows_from_the_end_of_its_key(
    load: Load, key: str, comparison: Comparison, worse: Worse
) -> None:
    (budget,) = load(rule(f"{key}\nmax_duration: 1m30s")).budgets
    assert (budget.metric, budget.comparison, budget.worse) == ("p95", comparison, worse)
    assert budget.max_duration == timedelta(seconds=90)


def test_an_area_may_hold_a_list_and_equal_ids_are_numbered(load: Load) -> None:
    text = rule(
        "- {p95_delta_pct: 15, max_duration_min: 30}\n- {p95_delta_pct: 50, max_duration_min: 0.5, tier: A}"
    )
    first, second = load(text).budgets
    assert (first.id, second.id) == ("area.p95_delta_pct", "area.p95_delta_pct#2")
    assert (second.tier, second.max_duration) == (Tier.A, timedelta(seconds=30))


def test_every_option_of_a_budget_is_kept(load: Load) -> None:
    options = "x_delta_pct: 0\nworse: lower\nmax_duration: 10m\ntier: C\nmethod: sign\naccounting: cumulative"
    (budget,) = load(rule(f"{options}\nmin_samples: 7\nslice: de\nseverity: critical")).budgets
    assert (budget.worse, budget.tier, budget.method) == (Worse.LOWER, Tier.C, Method.SIGN)
    assert (budget.accounting, budget.min_samples, budget.slice) == (Accounting.CUMULATIVE, 7, "de")
    assert (budget.severity, budget.series) == (Severity.CRITICAL, "x:de")


def test_increase_needs_no_duration_and_no_samples(load: Load) -> None:
    (budget,) = load(rule("incidents_increase: 0")).budgets
    assert (budget.max_duration, budget.min_samples, budget.tier) == (timedelta(0), 0, Tier.B)


@pytest.mark.parametrize(
    "decision",
    [
        "{action: incident_commander_decision, within: 5m, on_timeout: continue, max_overrides: 1}",
        "{action: incident_commander_decision_within_5m, on_timeout: continue, max_overrides: 1}",
        "{within: 5m, on_timeout: continue, max_overrides: 1}",
    ],
)
def test_long_forms_of_a_decision_mean_the_same(load: Load, decision: str) -> None:
    spec = load(rule("x_above: 1\nmax_duration: 1m", f"decision: {{tier_b_breach: {decision}}}"))
    found = spec.decision.of(Tier.B)
    assert (found.action, found.within) == (Action.INCIDENT_COMMANDER_DECISION, timedelta(minutes=5))
    assert (found.on_timeout, found.max_overrides) == (OnTimeout.CONTINUE, 1)


@pytest.mark.parametrize(
    ("written", "ids"),
    [
        ("alice", ["alice"]),
        ("{id: '7', name: On call}", ["7"]),
        ("[alice, {id: bob}]", ["alice", "bob"]),
        ("[]", []),
    ],
)
def test_commanders_are_one_or_many(load: Load, written: str, ids: list[str]) -> None:
    spec = load(rule("x_increase: 0", f"incident_commander: {written}"))
    assert [commander.id for commander in spec.incident_commanders] == ids
    assert Commander(id="alice", name="alice") in spec.incident_commanders or "alice" not in ids


HOSTILE = st.one_of(
    st.text(min_size=1).filter(lambda text: "\x00" not in text),
    st.sampled_from(
        ["{{ 1/0 }}", "{% raw %}", "${HOME}", "'; DROP TABLE x; --", '"', "a\nb", "yes", "{a}", "%s"]
    ),
)


@given(release=HOSTILE, area=HOSTILE, metric=HOSTILE.filter(lambda text: ":" not in text), slice_=HOSTILE)
def test_names_are_data_whatever_they_look_like(
    tmp_path_factory: pytest.TempPathFactory, release: str, area: str, metric: str, slice_: str
) -> None:
    budget = {f"{metric}_delta_pct": 1, "max_duration": "5m", "slice": slice_}
    content = {
        "release": release,
        "baseline": release + "!",
        "window": "1h",
        "rollback_budget": {area: budget},
    }
    path = tmp_path_factory.mktemp("names") / "x.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=False), encoding="utf-8")
    spec = load_budget(path)
    (found,) = spec.budgets
    assert (spec.release, found.area, found.metric, found.slice) == (release, area, metric, slice_)
    assert RolloutSpec.model_validate_json(spec.canonical_json()) == spec


@given(st.timedeltas(timedelta(0), timedelta(days=365)).map(lambda d: d - d % timedelta(milliseconds=1)))
def test_a_written_duration_reads_back(duration: timedelta) -> None:
    text = write_duration(duration)
    assert parse_duration(text) == duration
    assert re.fullmatch(DURATION_PATTERN, text)


@given(st.text("0123456789dhms.-+: ", max_size=8))
def test_the_schema_pattern_accepts_just_what_the_reader_accepts(text: str) -> None:
    matches = re.search(DURATION_PATTERN.replace("$", r"\Z"), text) is not None
    if matches and not any(len(number) > 2 for number in re.findall("[0-9]+", text)):
        assert parse_duration(text) >= timedelta(0)
    elif not matches:
        with pytest.raises(ValueError, match="duration"):
            parse_duration(text)


@given(st.text(st.characters(exclude_characters="/\x00", exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_rollout_names_are_safe_and_distinct(stem: str) -> None:
    name = rollout_name(Path("/budgets") / f"{stem}.yaml")
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", name)
    other = rollout_name(Path("/budgets") / f"{stem} .yaml")
    assert name != other
    if re.fullmatch(r"[A-Za-z0-9_-]+", stem):
        assert name == stem


def test_fragments_and_hidden_files_are_no_budgets(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "defaults.yaml", "_shared.yaml", ".hidden.yaml", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.yaml").mkdir()
    assert [path.name for path in find_budgets(tmp_path)] == ["a.yml", "b.yaml"]
    assert find_budgets(tmp_path / "nowhere") == []


def test_a_budget_without_owner_and_commander_loads_and_does_not_ship(load: Load) -> None:
    problems = preflight_problems(load(MINIMAL))
    assert [re.findall("`([a-z_]+)`", problem)[0] for problem in problems] == [
        "owner",
        "incident_commander",
        "source",
        "target",
    ]
    sql = load(MINIMAL + "owner: me\nincident_commander: me\nsource: {type: sql, conn_id: db}\n")
    assert isinstance(sql.source, SqlSource)
    assert any("metrics.p95.query" in problem for problem in preflight_problems(sql))


def test_warnings_name_what_is_probably_not_meant(load: Load) -> None:
    internal = load(rule("gpu_above: 8\nmax_duration: 5m", "metrics: {gpu: {user_impact: false}}"))
    assert any("users feel" in warning for warning in warnings(internal))
    seconds = load(rule("p95_delta_pp: 8\nmax_duration: 5m", "metrics: {p95: {kind: quantile}}"))
    assert any("proportion" in warning for warning in warnings(seconds))
    assert any("description" in warning for warning in warnings(load(MINIMAL)))


@pytest.mark.parametrize(
    ("line", "metric", "warned"),
    [
        ("task_success_delta_pct: 2", "task_success: {kind: proportion}", True),
        ("task_success_delta_pct: -2", "task_success: {kind: proportion}", False),
        ("p95_delta_pct: -15", "p95: {kind: quantile}", True),
        ("p95_above: 15", "p95: {kind: quantile}", False),
        ("speed_delta_pct: 15", "speed: {kind: mean}", False),
        ("speed_delta_pct: 15", "speed: {kind: mean, better: higher}", True),
        ("p95_delta_pct: -15", "p95: {kind: quantile, better: higher}", False),
    ],
)
def test_a_rule_that_rolls_an_improvement_back_is_warned_about(
    load: Load, line: str, metric: str, warned: bool
) -> None:
    found = warnings(load(rule(f"{line}\nmax_duration: 5m", f"metrics: {{{metric}}}")))
    assert any("this rule rolls back when it" in warning for warning in found) is warned


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("{scale: 0}", "`scale` is a number above 0"),
        ("{kind: count, scale: 0.01}", "`scale` is not for a count"),
        ("{better: faster}", "better"),
    ],
)
def test_what_a_metric_cannot_be_says_why(load: Load, metric: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        load(rule("p95_above: 15\nmax_duration: 5m", f"metrics: {{p95: {metric}}}"))


@pytest.mark.parametrize(
    ("metric", "duration", "said"),
    [
        ("{every: 1h, lag: 2h}", "3h", None),
        ("{every: 1h}", "20m", "the second bad look in a row breaches"),
        ("{every: 2h}", "3h", "are blind only after 30h"),
        ("{every: 2h, blind_after: 6h}", "3h", None),
        ("{every: 25h}", "3h", "no look of 25h lies within the window of 24h"),
        ("{every: 24h, blind_after: 24h, lag: 0m}", "0m", "are blind only after 24h"),
        (
            "{every: 12h, blind_after: 13h}",
            "12h",
            "only one look of 12h lies for certain within the window of 24h",
        ),
        ("{every: 12h, blind_after: 13h}", "0m", None),
        ("{every: 13h, blind_after: 13h}", "13h", "breaches at a second one, so that it cannot breach"),
        ("{every: 8h, blind_after: 13h}", "8h", None),
        ("{every: 20s}", "20m", "`every` (20s) is shorter than `watch.step` (1m)"),
        ("{bucket_by: arrival}", "20m", "write its `lag`"),
        ("{bucket_by: arrival, lag: 24h}", "20m", "whose first 24h `bucket_by: arrival` leaves out, so that"),
        ("{every: 1h, lag: 24h}", "3h", "no look is decided before the window of 24h is over"),
    ],
)
def test_a_pace_that_makes_a_budget_worth_less_is_warned_about(
    load: Load, metric: str, duration: str, said: str | None
) -> None:
    spec = load(rule(f"score_delta: -0.1\nmax_duration: {duration}", f"metrics: {{score: {metric}}}"))
    found = [one for one in warnings(spec) if ".score_delta: " in one]
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


def test_every_doubt_about_a_pace_is_said_at_once(load: Load) -> None:
    spec = load(rule("score_delta: -0.1\nmax_duration: 20m", "metrics: {score: {every: 2h, lag: 30h}}"))
    found = [one for one in warnings(spec) if ".score_delta: " in one]
    assert [said in one for said, one in zip(("`lag`", "blind", "second bad look"), found, strict=True)] == [
        True
    ] * 3


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("{every: 0m}", "`every` must be longer than 0"),
        ("{every: 60}", "needs its unit"),
        (
            "{every: 1h, blind_after: 30m}",
            "`blind_after` \\(30m\\) is shorter than `every` \\(1h\\), so that the time from one look to the",
        ),
        ("{every: 1h, max_gap: 30m}", "`max_gap` \\(30m\\) is shorter than `every` \\(1h\\)"),
        ("{lag: -1h}", '`lag` "-1h" is negative, and a duration cannot be'),
        ("{bucket_by: judge}", "bucket_by"),
    ],
)
def test_a_pace_that_cannot_be_says_why(load: Load, metric: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        load(rule("score_delta: -0.1\nmax_duration: 5h", f"metrics: {{score: {metric}}}"))


@pytest.mark.parametrize(("share", "warned"), [("0.5", False), ("0.9", True)])
def test_a_mean_with_a_small_baseline_is_warned_about(load: Load, share: str, warned: bool) -> None:
    target = f"target: {{conn_id: r, read: {{path: /t}}, ship_share: {share}}}"
    cost = "metrics: {cost: {kind: mean}}"
    spec = load(rule("cost_delta_pct: 15\nmax_duration: 5m", f"{cost}\n{target}"))
    assert any("skewed" in warning for warning in warnings(spec)) is warned
