"""``review-change``: what a change of the rule would have done, as Markdown and as JSON."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.views import LoggedLabel
from rollback_budget.model.label import Label
from tests.backtest.rollouts import past_rollouts, record, write_budget
from tests.engine.builders import START, at, budget, rollout
from tests.support.command_line import Run
from tests.track_record.rollouts import key, slow, watch

pytestmark = pytest.mark.database


@pytest.fixture
def rules(tmp_path: Path) -> tuple[Path, Path]:
    """The budget of the recorded rollouts, and one of half the duration."""
    old = write_budget(tmp_path)
    new = tmp_path / "new.yaml"
    new.write_text(old.read_text().replace("max_duration_min: 30", "max_duration_min: 15"))
    return old, new


def test_the_markdown_says_the_counts_the_rollouts_and_the_rule(
    run: Run, rules: tuple[Path, Path], tmp_path: Path
) -> None:
    code, out, _ = run("review-change", *rules, past_rollouts(tmp_path))
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "## Rollback budget `new`: what this change would have done"
    assert lines[2] == (
        "Of 6 past rollouts (2 good, 3 bad, 1 without a label), 5 would have gone otherwise:"
        " 2 false trips (2 before), 2 found (1), 0 missed (1), median delay 16 min (31 min)."
    )
    assert "| median delay | 31 min | 16 min |" in lines
    assert "| `e-missed.csv` | bad | missed |  | found | 55 | `latency.p95_delta_pct` |" in lines
    assert not any("a-kept" in line for line in lines)
    place = lines.index("- `latency.p95_delta_pct`")
    assert "for 30 min" in lines[place + 1]
    assert "for 15 min" in lines[place + 2]


def test_json_holds_every_rollout_and_the_rule(run: Run, rules: tuple[Path, Path], tmp_path: Path) -> None:
    said = json.loads(run("review-change", *rules, past_rollouts(tmp_path), "--json")[1])
    assert (said["before"]["found"], said["after"]["found"]) == (1, 2)
    assert len(said["rollouts"]) == 6
    missed = said["rollouts"][4]
    assert (missed["file"], missed["differs"]) == ("e-missed.csv", True)
    assert missed["before"] == {"outcome": "missed", "trigger_minute": None, "budget": None}
    assert missed["after"] == {"outcome": "found", "trigger_minute": 55.0, "budget": "latency.p95_delta_pct"}
    (line,) = said["rule"]["budgets"]
    assert line["budget"] == "latency.p95_delta_pct"
    assert said["rule"]["settings"] == []


def test_the_same_rule_for_another_release_is_said_to_be_the_same(
    run: Run, rules: tuple[Path, Path], tmp_path: Path
) -> None:
    old, new = rules
    new.write_text(old.read_text().replace("release: v42", "release: v43"))
    folder = past_rollouts(tmp_path)
    out = run("review-change", old, new, folder)[1]
    assert out.splitlines()[2:] == [
        "Nothing changes: both budgets hold the same rule, so none was tried on past rollouts."
    ]
    assert json.loads(run("review-change", old, new, folder, "--json")[1])["after"] is None


def test_names_are_no_markup(run: Run, rules: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "rollouts"
    record(folder, "a|b`@team`.csv", slow=range(10, 30))
    out = run("review-change", *rules, folder)[1]
    assert r"| `a\|b'@team'.csv` | none | quiet |  | tripped | 25 | `latency.p95_delta_pct` |" in out


def twice_the_duration(folder: Path, *metrics: str) -> tuple[Path, Path]:
    """Write a budget of the service in the ledger, and one of twice its durations."""
    old, new = folder / "old.yaml", folder / "new.yaml"
    for path, minutes in ((old, 30), (new, 60)):
        head = "release: v50\nbaseline: v49\nservice: assistant\nwindow: 2h\nrollback_budget:\n  latency:\n"
        lines = [
            f"    - {{{metric}_delta_pct: +15, max_duration_min: {minutes}, method: threshold}}\n"
            for metric in metrics
        ]
        path.write_text(head + "".join(lines))
    return old, new


def test_on_the_ledger_what_a_looser_rule_would_have_done_later_is_undecided(
    ledger: Ledger, run: Run, tmp_path: Path
) -> None:
    spec = rollout(budget(), minutes=120)
    watch(ledger, 1, spec, slow(range(20, 121)))
    watch(ledger, 2, spec, slow(range(0)))
    looser = twice_the_duration(tmp_path, "p95", "ttft")
    code, out, err = run("review-change", *looser, "--ledger")
    assert code == 0
    assert "2 of 2 rollouts without a label in the ledger at" in err
    assert "| `model-v42 manual__1` | none | tripped | 50 | undecided |  | `latency.p95_delta_pct` |" in out
    assert "- `latency.ttft_delta_pct` could not be tried on 2 rollouts, judged here without it" in out
    assert "looks are rounded to six digits" in out


@pytest.fixture
def two_past(ledger: Ledger) -> Ledger:
    """Two rollouts of two hours, a harmless one and one that goes bad after 100 minutes."""
    spec = rollout(budget(), minutes=120)
    for number, minutes in ((1, range(0)), (2, range(100, 121))):
        watch(ledger, number, spec, slow(minutes))
    bad = LoggedLabel(Label.BAD, at(99), "alice", "", START + timedelta(days=1))
    ledger.labels.add(key(2), bad)
    return ledger


PROSE = "release: v50\nbaseline: v49\nservice: assistant\nwindow: 2h\nrollback_budget:\n  latency:\n" + (
    "    - {p95_delta_pct: +15, max_duration_min: 30, method: threshold}\n"
)


@pytest.mark.parametrize(
    "change",
    [
        "",
        "# Slower than this and people leave.\n",
        "owner: team-answers\n",
        "incident_commander: [alice]\n",
        "notify: [{notifier: slack, conn_id: slack, args: {channel: rollouts}}]\n",
        "concurrent: refuse\n",
    ],
)
def test_on_the_ledger_rules_that_decide_alike_are_said_to_change_nothing(
    two_past: Ledger, run: Run, tmp_path: Path, change: str
) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(PROSE)
    new.write_text(change + PROSE.replace("v50", "v51").replace("v49", "v50"))
    code, out, _ = run("review-change", old, new, "--ledger")
    assert (code, out.splitlines()) == (
        0,
        [
            "## Rollback budget `new`: what this change would have done",
            "",
            "Nothing changes: both budgets hold the same rule, so none was tried on past rollouts.",
        ],
    )
    said = json.loads(run("review-change", old, new, "--ledger", "--json")[1])
    assert (said["before"], said["after"], said["rollouts"]) == (None, None, [])
    assert said["rule"] == {"budgets": [], "settings": []}


def test_an_onset_outside_of_the_window_of_one_rule_is_said_under_what_is_not_known(
    two_past: Ledger, run: Run, tmp_path: Path
) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(PROSE)
    new.write_text(PROSE.replace("window: 2h", "window: 1h"))
    out = run("review-change", old, new, "--ledger")[1]
    assert "### What is not known" in out
    lines = [line.replace("\\", "") for line in out.splitlines() if "under the" in line]
    assert len(lines) == 3
    assert (
        "manual__2`: under the new rule, its onset 2026-10-01 13:39:00 UTC is not before the end" in lines[1]
    )
    assert "or give the budget a longer window" in lines[1]
    assert "under the new rule, it goes on for 1 h after the window of 1 h ended" in lines[2]
    rollouts = json.loads(run("review-change", old, new, "--ledger", "--json")[1])["rollouts"]
    assert [len(one["warnings"]) for one in rollouts] == [1, 2]


def test_a_comment_names_ten_warnings_and_how_many_more_there_are(
    run: Run, rules: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "rollouts"
    for number in range(12):
        record(folder, f"{number}.csv", minutes=121)
    for path in rules:
        path.write_text(path.read_text().replace("window: 4h", "window: 2h"))
    out = run("review-change", *rules, folder)[1]
    assert out.count("it goes on for 1 min") == 10
    assert "- and 2 more of these, which `--json` lists" in out


def test_the_headline_says_how_many_false_trips_are_only_undecided_now(
    ledger: Ledger, run: Run, tmp_path: Path
) -> None:
    spec = rollout(budget(), minutes=120)
    for number, minutes in ((1, range(20, 121)), (2, range(0)), (3, range(0))):
        watch(ledger, number, spec, slow(minutes))
        label = Label.BAD if number == 3 else Label.GOOD
        ledger.labels.add(key(number), LoggedLabel(label, None, "alice", "", START + timedelta(days=1)))
    lines = run("review-change", *twice_the_duration(tmp_path, "p95"), "--ledger")[1].splitlines()
    assert lines[2] == (
        "Of 3 past rollouts (2 good, 1 bad, 0 without a label), 1 would have gone otherwise:"
        " 0 false trips (1 before, of which 1 is undecided now), 0 found (0), 1 missed (1), median delay"
        " not known (not known); 1 undecided (0)."
    )
    assert "| false trips | 1 of 2 | 0 of 1 |" in lines


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ("service: search\n", ("--ledger",), "OLD is of the service 'default' and NEW of 'search'"),
        ("", (), "give either FOLDER or --ledger"),
        ("", ("--ledger",), "no past rollout of 'default' in the ledger at"),
        ("nonsense: 1\n", ("--ledger",), "unknown key"),
    ],
)
def test_what_cannot_be_compared_is_one_message_and_exit_code_1(
    run: Run, rules: tuple[Path, Path], change: str, arguments: tuple[str, ...], message: str
) -> None:
    old, new = rules
    new.write_text(change + new.read_text())
    code, out, err = run("review-change", old, new, *arguments)
    assert (code, out) == (1, "")
    assert message in err
