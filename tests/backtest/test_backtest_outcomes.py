"""What a backtest says about recorded rollouts, and what it refuses."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from rollback_budget.backtest.extent import extent_of
from rollback_budget.backtest.folder import RecordedFile, recordings_of
from rollback_budget.backtest.run import run_backtest
from rollback_budget.backtest.score import Tripped, score
from rollback_budget.backtest.sweep import candidates_of
from rollback_budget.backtest.trial import TrialOutcome, read_record, trace_of, try_rule
from rollback_budget.budget_file import load_budget
from rollback_budget.charts import draw_trace
from rollback_budget.engine import Window, evaluate
from rollback_budget.exceptions import SeriesError
from rollback_budget.model.metric import Metric
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.watch_settings import OnBlind
from rollback_budget.sources.recorded import read_series
from tests.backtest.rollouts import NOON, at, past_rollouts, record, write_budget

pytestmark = [pytest.mark.pure, pytest.mark.slow]


def test_every_rollout_gets_the_outcome_that_its_label_and_onset_say(tmp_path: Path) -> None:
    spec = load_budget(write_budget(tmp_path))
    results = run_backtest(spec, recordings_of(past_rollouts(tmp_path)))
    trials = {one.trial.recording.name: one.trial for one in results}
    assert {name: trial.outcome for name, trial in trials.items()} == {
        "a-kept.csv": TrialOutcome.KEPT,
        "b-false.csv": TrialOutcome.FALSE_TRIP,
        "c-found.csv": TrialOutcome.FOUND,
        "d-early.csv": TrialOutcome.FALSE_TRIP,
        "e-missed.csv": TrialOutcome.MISSED,
        "f-unknown.csv": TrialOutcome.TRIPPED,
    }
    found = trials["c-found.csv"]
    assert found.deciding is not None
    assert (found.deciding.minute, found.delay) == (70.0, timedelta(minutes=31))
    # A budget that only records breaches all the same, and stops nothing.
    (recorded,) = trials["a-kept.csv"].triggers
    assert (recorded.budget, recorded.minute) == ("quality.task_success_delta_pp", 25.0)
    rule = score(Tripped(trial.recording, trial.deciding) for trial in trials.values())
    assert (rule.good, rule.bad, rule.unlabelled) == (2, 3, 1)
    assert (rule.false_trips, rule.found, rule.missed, rule.tripped) == (2, 1, 1, 1)
    assert rule.median_delay == timedelta(minutes=31)


def test_a_trigger_is_where_the_live_rule_would_have_breached(tmp_path: Path) -> None:
    spec = load_budget(write_budget(tmp_path))
    folder = past_rollouts(tmp_path)
    for name in ("b-false.csv", "d-early.csv", "e-missed.csv"):
        live = evaluate(spec, read_series(folder / name), start=NOON)
        trial = try_rule(read_record(spec, RecordedFile(folder / name)))
        assert (trial.deciding and trial.deciding.at) == (
            live.breaches[0].breached_at if live.breaches else None
        )


def test_a_watch_that_would_have_been_blind_is_tried_to_its_end_and_says_so(tmp_path: Path) -> None:
    spec = load_budget(write_budget(tmp_path))
    spec = spec.model_copy(update={"watch": spec.watch.model_copy(update={"on_blind": OnBlind.REVIEW})})
    folder = tmp_path / "rollouts"
    record(folder, "a.csv", slow=range(60, 121))
    path = folder / "a.csv"
    lines = path.read_text().splitlines()
    # From minute 11 on nothing of either metric was recorded for half an hour.
    path.write_text("\n".join(line for place, line in enumerate(lines) if not 40 < place <= 160))
    trial = try_rule(read_record(spec, RecordedFile(path)))
    assert trial.blind_at == NOON + timedelta(minutes=25)
    assert trial.deciding is not None
    assert trial.deciding.minute == 90.0


def warnings_of(folder: Path, spec: RolloutSpec, name: str) -> tuple[str, ...]:
    (one,) = [one for one in recordings_of(folder) if one.name == name]
    return try_rule(read_record(spec, one)).warnings


@pytest.mark.parametrize(
    ("onset", "window", "said", "remedy"),
    [
        (
            -1,
            240,
            "is before what was tried (2026-10-01 12:00:00 UTC to 2026-10-01 14:00:00 UTC)",
            "record the",
        ),
        (
            120,
            240,
            "is not before the end of what was tried (2026-10-01 12:00:00 UTC to 2026-10-01 14:00",
            "record the",
        ),
        (
            90,
            90,
            "is not before the end of what was tried (2026-10-01 12:00:00 UTC to 2026-10-01 13:30",
            "a longer window",
        ),
    ],
)
def test_an_onset_outside_of_what_was_tried_is_warned_of_with_what_to_do(
    tmp_path: Path, onset: int, window: int, said: str, remedy: str
) -> None:
    spec = load_budget(write_budget(tmp_path)).model_copy(update={"window": timedelta(minutes=window)})
    folder = tmp_path / "rollouts"
    record(folder, "a.csv", slow=range(10, 60))
    (folder / "labels.csv").write_text(f"file,label,onset\na.csv,bad,{at(onset)}\n")
    first, *rest = warnings_of(folder, spec, "a.csv")
    assert said in first
    assert "correct it in labels.csv, or" in first
    assert remedy in first
    assert ["it goes on for 30 min" in one for one in rest] == [True] * (window == 90)


@pytest.mark.parametrize(("onset", "window"), [(0, 120), (119, 120), (39, 240)])
def test_an_onset_within_what_was_tried_and_a_file_of_no_more_than_the_window_are_not_warned_of(
    tmp_path: Path, onset: int, window: int
) -> None:
    spec = load_budget(write_budget(tmp_path)).model_copy(update={"window": timedelta(minutes=window)})
    folder = tmp_path / "rollouts"
    record(folder, "a.csv", slow=range(40, 121))
    (folder / "labels.csv").write_text(f"file,label,onset\na.csv,bad,{at(onset)}\n")
    assert warnings_of(folder, spec, "a.csv") == ()


@pytest.mark.parametrize("by_rows", [False, True])
def test_a_file_that_goes_on_after_the_window_is_warned_of_as_far_as_it_is_judged(
    tmp_path: Path, by_rows: bool
) -> None:
    spec = load_budget(write_budget(tmp_path)).model_copy(update={"window": timedelta(minutes=119)})
    folder = tmp_path / "rollouts"
    record(folder, "a.csv")
    path = folder / "a.csv"
    # An empty column of histograms is something that only the reader by rows knows.
    rows = path.read_text().splitlines()
    if by_rows:
        rows = [f"{row},{'' if place else 'le'}" for place, row in enumerate(rows)]
    path.write_text("\n".join([*rows, f"{at(600)},tokens,v42,1,1{',' * by_rows}"]))
    (said,) = warnings_of(folder, spec, "a.csv")
    assert said.startswith(
        "it goes on for 1 min after the window of 1 h 59 min ended at 2026-10-01 13:59:00 UTC"
    )
    assert "give the budget the window of that rollout, or record no more than its window" in said


def test_a_slow_look_that_begins_in_the_window_and_ends_after_it_is_no_warning(tmp_path: Path) -> None:
    score = {"task_success": Metric(every=timedelta(hours=1))}
    spec = load_budget(write_budget(tmp_path)).model_copy(update={"metrics": score})
    spec = spec.model_copy(update={"window": timedelta(minutes=90)})
    window = Window(NOON, NOON + spec.window)
    spans = {"p95": (NOON, window.end), "task_success": (NOON, NOON + timedelta(hours=2))}
    assert not extent_of(spec, window, spans).goes_on
    later = {**spans, "task_success": (NOON, NOON + timedelta(hours=3))}
    assert extent_of(spec, window, later).goes_on


def test_processes_change_nothing_but_the_time(tmp_path: Path) -> None:
    spec = load_budget(write_budget(tmp_path))
    folder = tmp_path / "rollouts"
    for number in range(10):
        record(folder, f"{number}.csv", slow=range(number, 10 * number), minutes=100)
    recordings = recordings_of(folder)
    done: list[int] = []
    alone = run_backtest(spec, recordings, sweep=True)
    together = run_backtest(spec, recordings, sweep=True, jobs=2, on_done=lambda: done.append(1))
    assert alone == together
    assert len(done) == 10


def test_a_sweep_finds_more_with_a_shorter_duration_and_trips_more(tmp_path: Path) -> None:
    spec = load_budget(write_budget(tmp_path))
    recordings = recordings_of(past_rollouts(tmp_path))
    results = run_backtest(spec, recordings, sweep=True)
    scores = {
        (candidate.budget, candidate.threshold, candidate.max_duration): score(
            Tripped(one.trial.recording, one.swept[place]) for one in results
        )
        for place, candidate in enumerate(candidates_of(spec))
    }
    budget, minutes = "latency.p95_delta_pct", timedelta(minutes=1)
    as_it_is, shorter = scores[budget, 15.0, 30 * minutes], scores[budget, 15.0, 15 * minutes]
    assert (as_it_is.found, shorter.found) == (1, 2)
    assert (as_it_is.median_delay, shorter.median_delay) == (31 * minutes, 16 * minutes)
    assert scores[budget, 45.0, 30 * minutes].found == 0
    currents = [candidate for candidate in candidates_of(spec) if candidate.is_current]
    assert [candidate.budget for candidate in currents] == [one.id for one in spec.budgets]


def test_a_chart_follows_every_budget_look_by_look(tmp_path: Path) -> None:
    spec = load_budget(write_budget(tmp_path))
    recording = recordings_of(past_rollouts(tmp_path))[2]
    seen = read_record(spec, recording)
    trace = trace_of(seen, try_rule(seen))
    latency = trace.budgets[0]
    assert len(latency.points) == 120
    assert latency.points[69].burn == timedelta(minutes=30)
    assert latency.breached_at == latency.points[69].time
    for name, magic in (("chart.svg", b"<svg"), ("chart.png", b"\x89PNG")):
        draw_trace(trace, tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(magic)


LABELS = {
    "file,label\na.csv,maybe\n": r"labels\.csv:2: 'maybe' is no label; write good or bad",
    "file,label\nb.csv,good\n": r"labels\.csv:2: there is no 'b\.csv' in the folder",
    "file,label\na.csv,good\na.csv,bad\n": r"labels\.csv:3: 'a\.csv' is labelled twice",
    "file,label,onset\na.csv,bad,noon\n": r"labels\.csv:2: 'noon' is not a time in UTC",
    "file,label,onset\na.csv,bad,2026-10-01T12:00:00\n": r"labels\.csv:2: .* is not a time in UTC",
    "file,label,onset\na.csv,bad,0001-01-01T00:00+14:00\n": r"labels\.csv:2: .*check the year",
    f"file,label,onset\na.csv,good,{at(1)}\n": r"labels\.csv:2: a good rollout has no onset",
    "name,label\na.csv,good\n": r"labels\.csv:1: the column 'file' is missing",
}


@pytest.mark.parametrize("text", LABELS)
def test_labels_that_cannot_be_used_are_refused_at_their_line(tmp_path: Path, text: str) -> None:
    record(tmp_path, "a.csv", minutes=2)
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(SeriesError, match=LABELS[text]):
        recordings_of(tmp_path)


def test_all_files_that_cannot_be_read_are_named_at_once(tmp_path: Path) -> None:
    spec = load_budget(write_budget(tmp_path))
    folder = tmp_path / "rollouts"
    record(folder, "a.csv", minutes=2)
    record(folder, "b.csv", minutes=2, versions=("v1", "v0"))
    (folder / "c.csv").write_text("time,metric,version,value\n2026-10-01T12:00:00Z,p95,v42,fast\n")
    with pytest.raises(SeriesError) as caught:
        run_backtest(spec, recordings_of(folder))
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"{folder / 'b.csv'}: no sample of v42 or v41")
    assert second.startswith(f"{folder / 'c.csv'}:2: value is 'fast'")
