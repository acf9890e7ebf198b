"""Two days of a real Prometheus, recorded: cut off by kills and outages, the file is the same."""

from __future__ import annotations

import json
import math
import random
import signal
from collections.abc import Iterator
from functools import partial
from itertools import accumulate
from pathlib import Path

import pytest

from rollback_budget.budget_file import load_budget
from rollback_budget.engine import evaluate
from rollback_budget.engine.evaluation import VerdictKind
from rollback_budget.sources.recorded import read_series
from tests.recording.command import CommandProcess, run
from tests.sources.prometheus_day import line, minute, scraped
from tests.support.command_line import Run
from tests.support.fault_proxy import Answers, Does, Fault, FaultProxy, Loses, Slows, running_fault_proxy
from tests.support.prometheus import WHY_NOT, Prometheus, is_installed, running_prometheus

pytestmark = [pytest.mark.service, pytest.mark.skipif(not is_installed(), reason=WHY_NOT)]

__all__ = ["run"]

BUDGET = """\
release: model-v42
baseline: model-v41
window: 48h
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
source: {type: prometheus, conn_id: prometheus, scrape_interval: 60s}
metrics:
  task_success: {kind: proportion, query: {failures: failures_total, total: requests_total}}
  high_severity_incidents: {kind: count, query: {events: incidents_total, total: requests_total}}
  p95: {kind: quantile, unit: s, query: {histogram: latency_seconds}}
watch: {step: 2m, max_gap: 10m}
"""
MINUTES = 48 * 60
#: The release's counters begin anew here, at the edge of a page.
RESTART = 24 * 60
#: From here on the release is slower.
ONSET = 30 * 60
#: Nothing of the baseline is scraped in these minutes, at the edge of a page.
GAP = range(18 * 60 - 7, 18 * 60 + 7)
BOUNDS = (*(0.5 * 1.1**power for power in range(14)), math.inf)
RANGE = ("--from", minute(0).isoformat(), "--to", minute(MINUTES).isoformat())


def scrapes() -> Iterator[str]:
    """Counters of both versions by the minute, with a restart, a gap and a regression."""
    draw = random.Random(7)
    for version in ("model-v41", "model-v42"):
        is_release = version == "model-v42"
        columns: dict[tuple[str, str], list[int]] = {}
        for at in range(MINUTES):
            scale = 1.35 if is_release and at >= ONSET else 1.0
            took = [draw.lognormvariate(math.log(0.8 * scale), 0.3) for _ in range(20)]
            columns.setdefault(("requests_total", ""), []).append(20)
            columns.setdefault(("failures_total", ""), []).append(sum(draw.random() < 0.03 for _ in took))
            columns.setdefault(("incidents_total", ""), []).append(0)
            for bound in BOUNDS:
                le = "+Inf" if bound == math.inf else str(bound)
                within = sum(one <= bound for one in took)
                columns.setdefault(("latency_seconds_bucket", le), []).append(within)
        for (name, le), increases in columns.items():
            before = list(accumulate(increases[:RESTART], initial=10_000))
            after = accumulate(increases[RESTART:])
            values: list[float | None] = [*map(float, before)]
            values += [value if is_release else value + before[-1] for value in after]
            if not is_release:
                values = [None if at in GAP else value for at, value in enumerate(values)]
            yield from scraped(
                name, values, first_s=0, every_s=60, version=version, **({"le": le} if le else {})
            )
    yield line("end", {}, 1.0, MINUTES * 60)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with running_prometheus(tmp_path_factory.mktemp("days"), backfill=scrapes()) as running:
        yield running


@pytest.fixture
def proxy(prometheus: Prometheus, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    with running_fault_proxy(prometheus.port) as running:
        monkeypatch.setenv("AIRFLOW_CONN_PROMETHEUS", running.url)
        yield running


@pytest.fixture
def budget(tmp_path: Path) -> Path:
    path = tmp_path / "model-v42.yaml"
    path.write_text(BUDGET)
    return path


def test_pages_of_any_length_give_one_recording_that_replays_to_the_live_verdict(
    proxy: FaultProxy, budget: Path, run: Run, tmp_path: Path
) -> None:
    for name, page in (("whole.csv", "2d"), ("pages.csv", "6h"), ("odd.csv", "5h10m")):
        assert run("record", budget, *RANGE, "-o", tmp_path / name, "--page", page)[0] == 0
    whole = (tmp_path / "whole.csv").read_bytes()
    assert (tmp_path / "pages.csv").read_bytes() == whole
    assert (tmp_path / "odd.csv").read_bytes() == whole
    code, out, _ = run("replay", budget, "--series", tmp_path / "whole.csv", "--json")
    live_code, live, _ = run("replay", budget, "--live", *RANGE, "--json")
    assert (code, live_code) == (2, 2)
    assert json.loads(live) == json.loads(out)
    (breach,) = json.loads(out)["breaches"]
    assert breach["budget"] == "latency.p95_delta_pct"
    assert minute(ONSET).isoformat() < breach["breached_at"]
    spec = load_budget(budget)
    assert evaluate(spec, read_series(tmp_path / "whole.csv"), start=minute(0)).verdict is VerdictKind.BREACH


def test_the_summary_says_what_is_unknown_of_each_version(
    proxy: FaultProxy, budget: Path, run: Run, tmp_path: Path
) -> None:
    code, out, err = run("record", budget, *RANGE, "-o", tmp_path / "days.parquet", "--json")
    said = json.loads(out)
    assert (code, said["start"], said["release"]) == (0, "2026-03-01T12:00:00Z", "model-v42")
    by_series = {(one["metric"], one["version"]): one for one in said["series"]}
    assert all(one["known"] + one["unknown"] == MINUTES // 2 for one in by_series.values())
    gap = by_series["task_success", "model-v41"]["unknown"]
    assert len(GAP) // 2 - 1 <= gap <= len(GAP) // 2 + 2
    assert by_series["task_success", "model-v42"]["unknown"] <= 2
    assert len(read_series(tmp_path / "days.parquet")) == said["samples"]
    assert err == ""


def let_through(proxy: FaultProxy, requests: int, then: Does, *, lost: int = 0) -> None:
    """Let some requests through, of which the first ``lost`` only in their second try, and then none."""
    query = partial(Fault, "POST", "query_range")
    proxy.faults = [query(Loses.REQUEST) for _ in range(lost)] + [query(Slows(0.0)) for _ in range(requests)]
    proxy.always = then


def test_an_outage_stops_it_after_retries_and_the_same_command_goes_on(
    proxy: FaultProxy, budget: Path, run: Run, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole.csv", tmp_path / "cut.csv"
    assert run("record", budget, *RANGE, "-o", whole)[0] == 0
    let_through(proxy, 4, Loses.REQUEST, lost=2)
    code, out, err = run("record", budget, *RANGE, "-o", cut)
    assert (code, out, cut.exists()) == (1, "", False)
    assert "cut.csv.part holds what was read up to 2026-03-0" in err
    assert "give the same command again to go on" in err
    proxy.always = None
    code, _, err = run("record", budget, *RANGE, "-o", cut)
    assert code == 0
    assert "goes on with" in err
    assert cut.read_bytes() == whole.read_bytes()
    assert not Path(f"{cut}.part").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_a_killed_recording_goes_on_where_it_was(
    proxy: FaultProxy, budget: Path, run: Run, tmp_path: Path, number: int, code: int
) -> None:
    whole, cut = tmp_path / "whole.parquet", tmp_path / "cut.parquet"
    assert run("record", budget, *RANGE, "-o", whole)[0] == 0
    needed, before = proxy.seen, proxy.seen + 5
    let_through(proxy, 5, Slows(600))
    command = ("record", budget, *RANGE, "-o", cut)
    process = CommandProcess(tmp_path / "home", {"prometheus": proxy.url}, *command)
    ended, _, err = process.end_when(lambda: proxy.seen > before, number)
    assert (ended, cut.exists()) == (code, False), err
    assert ("give the same command again" in err) == (number == signal.SIGINT)
    proxy.always, before = None, proxy.seen
    assert run(*command)[0] == 0
    assert cut.read_bytes() == whole.read_bytes()
    assert proxy.seen - before < needed


def test_an_answer_that_no_retry_mends_stops_it_at_once_and_leaves_nothing(
    proxy: FaultProxy, budget: Path, run: Run, tmp_path: Path
) -> None:
    proxy.always = Answers(401)
    code, _, err = run("record", budget, *RANGE, "-o", tmp_path / "days.csv")
    assert (code, proxy.seen) == (1, 1)
    assert "401" in err
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == [budget.name]
