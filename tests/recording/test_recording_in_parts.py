"""Recordings in parts: wherever one is cut off, the file is the one of an uninterrupted recording."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import count, pairwise
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollback_budget.clock import grid_floor
from rollback_budget.engine import Sample
from rollback_budget.exceptions import RecordingError, SourceError
from rollback_budget.recording.page import order, samples_for
from rollback_budget.recording.parts import Asked, RecordingInParts, folder_of, only_process
from rollback_budget.recording.plan import PaceRange, RecordingPlan
from rollback_budget.recording.read import RecordingInMemory, read_pages
from rollback_budget.recording.writer import check_format, write_series
from rollback_budget.sources.recorded import read_series
from tests.recording.sources import (
    BASELINE,
    MINUTE,
    NOON,
    RELEASE,
    SamplesInMemory,
    make_plan,
    pace_of,
    same,
)
from tests.support.examples import examples

pytestmark = pytest.mark.pure

ASKED = Asked("-1h", "now")
numbers = st.floats(width=64) | st.floats(0.0, 1.0)
counts = st.none() | st.floats(0.0, allow_infinity=False)


@st.composite
def plans(draw: st.DrawFn) -> RecordingPlan:
    """Two paces, with ends of their own that lie on their own grids."""
    start = draw(st.integers(0, 90))
    minutes = PaceRange(MINUTE, ("p95", "task_success"), *range_of(draw, MINUTE, start))
    slow = draw(st.sampled_from([7 * MINUTE, 60 * MINUTE]))
    return make_plan(minutes, PaceRange(slow, ("judge_score",), *range_of(draw, slow, start)))


def range_of(draw: st.DrawFn, every: timedelta, start_min: int) -> tuple[datetime, datetime]:
    begin = grid_floor(NOON + start_min * MINUTE, every)
    return begin, begin + draw(st.integers(1, 8)) * every


@st.composite
def recorded(draw: st.DrawFn) -> tuple[RecordingPlan, list[Sample]]:
    """A plan, and samples within and around it, in any order."""
    plan = draw(plans())
    samples = []
    for pace in plan.paces:
        for step in range(-1, pace.steps + 3):
            time = pace.start + step * pace.every
            for series in pace.series:
                for version in (RELEASE, BASELINE, "model-v40"):
                    bounds = draw(st.sampled_from([(None,), (None,), (0.1, 1.5, inf), ()]))
                    judge = draw(st.sampled_from((None, None, "judge-1, strict")))
                    samples += [
                        Sample(time, series, version, draw(numbers), draw(counts), le, judge=judge)
                        for le in bounds
                    ]
    return plan, draw(st.permutations(samples))


async def record(file: Path, plan: RecordingPlan, source: SamplesInMemory, page: timedelta) -> None:
    """What one call of the command does."""
    with only_process(file):
        recording = RecordingInParts.resume(file, ASKED, plan)
        recording = recording or RecordingInParts.begin(file, ASKED, plan)
        await read_pages(source, recording, page=page)
        recording.finish()


@examples(60)
@given(recorded(), st.lists(st.tuples(st.integers(1, 200), st.integers(0, 3)), max_size=6), st.data())
def test_any_cuts_and_any_pages_give_the_file_of_an_uninterrupted_recording(
    given_: tuple[RecordingPlan, list[Sample]], tries: list[tuple[int, int]], data: st.DataObject
) -> None:
    plan, samples = given_
    suffix = data.draw(st.sampled_from([".csv", ".parquet"]))
    with tempfile.TemporaryDirectory() as folder:
        whole, cut = Path(folder, f"whole{suffix}"), Path(folder, f"cut{suffix}")
        asyncio.run(record(whole, plan, SamplesInMemory(samples), timedelta(days=1)))
        for page_min, answers in tries:
            with suppress(SourceError):
                asyncio.run(record(cut, plan, SamplesInMemory(samples, answers), page_min * MINUTE))
            if cut.exists():
                break
            assert folder_of(cut).exists()
        else:
            asyncio.run(record(cut, plan, SamplesInMemory(samples), 13 * MINUTE))
        assert cut.read_bytes() == whole.read_bytes()
        assert [path.name for path in Path(folder).iterdir() if path.suffix == ".part"] == []
        wanted = [
            sample
            for request in plan.requests(plan.start, plan.end)
            for sample in samples_for(request, samples)
        ]
        if wanted:
            assert same(read_series(cut), sorted(wanted, key=order))


@examples(100)
@given(plans(), st.lists(st.integers(1, 100), min_size=1, max_size=5))
def test_the_requests_of_pages_adjoin_and_cover_the_plan_wherever_they_are_cut(
    plan: RecordingPlan, cuts: list[int]
) -> None:
    edges = sorted({plan.start, plan.end, *(plan.start + cut * MINUTE / 3 for cut in cuts)})
    edges = [edge for edge in edges if edge <= plan.end]
    requests = [one for start, end in pairwise(edges) for one in plan.requests(start, end)]
    for pace in plan.paces:
        own = [one for one in requests if one.series == pace.series]
        assert (own[0].start, own[-1].end) == (pace.start, pace.end)
        assert all(one.end == other.start for one, other in pairwise(own))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@examples(50)
@given(st.lists(st.tuples(numbers, counts, st.none() | st.floats(allow_nan=False)), min_size=1))
def test_every_digit_comes_back(suffix: str, rows: list[tuple[float, float | None, float | None]]) -> None:
    samples = [
        Sample(NOON + at * timedelta(milliseconds=250), 'p95:de, "at"', "{{ v }}", value, n, le)
        for at, (value, n, le) in enumerate(rows)
    ]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"series{suffix}")
        write_series(file, [samples])
        assert same(read_series(file), samples)


def test_after_a_kill_in_the_middle_of_a_page_that_page_is_read_again(tmp_path: Path) -> None:
    file, plan = tmp_path / "series.csv", make_plan()
    source = SamplesInMemory([Sample(NOON + MINUTE, "p95", RELEASE, 1.0)])
    with only_process(file):
        RecordingInParts.begin(file, ASKED, plan)
    # What a write leaves that was killed before its file got its name.
    (folder_of(file) / ".000000-x81k").write_bytes(b"half a pa")
    asyncio.run(record(file, plan, source, 60 * MINUTE))
    assert len(read_series(file)) == 1


class Killed(BaseException):
    """Ends a recording at a given step, as ``kill -9`` does."""


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_killed_at_any_step_of_its_end_the_next_call_leaves_the_whole_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    plan, cuts = make_plan(), 0
    source = SamplesInMemory([Sample(NOON + at * MINUTE, "p95", RELEASE, at / 7) for at in range(70)])
    whole = tmp_path / f"whole{suffix}"
    asyncio.run(record(whole, plan, source, 20 * MINUTE))
    for step in range(100):
        file, calls = tmp_path / f"cut-{step}{suffix}", count()

        def killing(change: Callable[..., Any], calls: Iterator[int] = calls, at: int = step) -> Any:
            def changed(*args: Any, **kwargs: Any) -> Any:
                if next(calls) == at:
                    raise Killed
                return change(*args, **kwargs)

            return changed

        with monkeypatch.context() as patch:
            for place, name in (
                (os, "replace"),
                (os, "rename"),
                (os, "unlink"),
                (os, "rmdir"),
                (os, "fsync"),
            ):
                patch.setattr(place, name, killing(getattr(place, name)))
            patch.setattr(Path, "unlink", killing(Path.unlink))
            try:
                asyncio.run(record(file, plan, source, 20 * MINUTE))
            except Killed:
                cuts += 1
        is_whole, asked = (
            file.exists() and (folder_of(file) / "recording.json").exists(),
            len(source.requests),
        )
        asyncio.run(record(file, plan, source, 20 * MINUTE))
        assert file.read_bytes() == whole.read_bytes()
        assert not folder_of(file).exists()
        assert not is_whole or len(source.requests) == asked
    assert 10 < cuts < 100


def interrupted(folder: Path, plan: RecordingPlan, answers: int = 1) -> Path:
    file = folder / "series.csv"
    source = SamplesInMemory([Sample(NOON + MINUTE, "p95", RELEASE, 1.0)], answers)
    with pytest.raises(SourceError):
        asyncio.run(record(file, plan, source, 20 * MINUTE))
    assert not file.exists()
    return file


def test_what_was_read_is_not_asked_for_again(tmp_path: Path) -> None:
    file = interrupted(tmp_path, make_plan(), answers=2)
    source = SamplesInMemory([])
    asyncio.run(record(file, make_plan(), source, 20 * MINUTE))
    assert [(one.start, one.end) for one in source.requests] == [(NOON + 40 * MINUTE, NOON + 60 * MINUTE)]


def test_a_relative_range_goes_on_with_the_times_that_it_began_with(tmp_path: Path) -> None:
    plan = make_plan()
    file = interrupted(tmp_path, plan)
    resumed = RecordingInParts.resume(file, ASKED, make_plan(pace_of(1, 30, 90, "p95")))
    assert resumed is not None
    assert resumed.plan == plan


@pytest.mark.parametrize(
    ("asked", "plan", "complaint"),
    [
        (ASKED, make_plan(release="model-v43"), "its release is model-v42, not model-v43"),
        (ASKED, make_plan(baseline="model-v40"), "its baseline is model-v41, not model-v40"),
        (Asked("-2h", "now"), make_plan(), "its from is -1h, not -2h"),
        (ASKED, make_plan(pace_of(5, 0, 60, "p95")), "p95 every 0:01:00, not p95 every 0:05:00"),
        (ASKED, make_plan(pace_of(1, 0, 60, "p99")), "p95 every 0:01:00, not p99 every 0:01:00"),
        (ASKED, make_plan(source_sha256="1" * 64), "the budget's source or metrics have other settings"),
    ],
)
def test_a_recording_of_something_else_is_not_gone_on_with(
    tmp_path: Path, asked: Asked, plan: RecordingPlan, complaint: str
) -> None:
    file = interrupted(tmp_path, make_plan())
    with pytest.raises(RecordingError, match="to begin anew") as raised:
        RecordingInParts.resume(file, asked, plan)
    assert complaint in str(raised.value)


@pytest.mark.parametrize("name", ["recording.json", "000000.page"])
@pytest.mark.parametrize("content", [b"", b"{", b"\x00\xff", b'{"plan": 3}'])
def test_a_state_that_cannot_be_read_is_named_and_nothing_is_lost(
    tmp_path: Path, name: str, content: bytes
) -> None:
    file = interrupted(tmp_path, make_plan())
    (folder_of(file) / name).write_bytes(content)
    with pytest.raises(RecordingError, match=rf"{name}: cannot be read .*; remove .*\.part to begin anew"):
        RecordingInParts.resume(file, ASKED, make_plan())
    assert (folder_of(file) / name).read_bytes() == content


def test_a_page_that_is_missing_is_noticed(tmp_path: Path) -> None:
    file = interrupted(tmp_path, make_plan(), answers=2)
    (folder_of(file) / "000000.page").unlink()
    with pytest.raises(RecordingError, match="page after 2026-10-01T12:00:00\\+00:00 is missing"):
        RecordingInParts.resume(file, ASKED, make_plan())


def test_a_folder_of_someone_else_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "series.csv"
    folder_of(file).mkdir()
    (folder_of(file) / "thesis.txt").write_text("mine")
    with pytest.raises(RecordingError, match=r"holds no recording, but thesis\.txt"):
        asyncio.run(record(file, make_plan(), SamplesInMemory([]), MINUTE))
    assert (folder_of(file) / "thesis.txt").read_text() == "mine"


def test_two_processes_do_not_record_into_one_file(tmp_path: Path) -> None:
    file = tmp_path / "series.csv"
    with only_process(file):
        with pytest.raises(RecordingError, match="another process is recording"), only_process(file):
            pass
        assert folder_of(file).exists()
    assert not folder_of(file).exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "series.csv.part").write_text("a file in its place")
    with pytest.raises(RecordingError, match=r"series\.csv\.part: cannot be written"):
        asyncio.run(record(tmp_path / "series.csv", make_plan(), SamplesInMemory([]), MINUTE))


@pytest.mark.parametrize("name", ["series.jsonl", "series", "series.csv.gz"])
def test_a_suffix_that_is_no_format_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(RecordingError, match=r"use \.csv or \.parquet"):
        check_format(Path(name))


@pytest.mark.parametrize(
    ("samples", "kept"),
    [
        # Two that are the same are one.
        ([Sample(NOON, "p95", RELEASE, 1.0, 5.0)] * 2, [(1.0, 5.0, None, None)]),
        ([Sample(NOON, "p95", RELEASE, nan)] * 2, [(nan, None, None, None)]),
        # Two that differ are unknown, as in a watch.
        (
            [Sample(NOON, "p95", RELEASE, 1.0), Sample(NOON, "p95", RELEASE, 2.0)],
            [(nan, None, None, "two different samples came for one time")],
        ),
        (
            [Sample(NOON, "p95", RELEASE, float(k), None, le) for k, le in ((1, 0.5), (2, 0.5), (3, inf))],
            [(nan, None, None, "two different samples came for one time")],
        ),
        ([Sample(NOON, "p95", RELEASE, 1.0, -3.0)], [(nan, None, None, "it came with n = -3")]),
        ([Sample(NOON, "p95", RELEASE, 1.0, nan)], [(1.0, None, None, None)]),
        ([Sample(NOON, "p95", RELEASE, 1.0, -inf)], [(1.0, None, None, None)]),
        ([Sample(NOON, "p95", RELEASE, nan, fault="a counter fell")], [(nan, None, None, "a counter fell")]),
        ([Sample(NOON, "p95", "model-v40", 1.0), Sample(NOON, "p99", RELEASE, 1.0)], []),
        ([Sample(NOON - MINUTE, "p95", RELEASE, 1.0), Sample(NOON + MINUTE, "p95", RELEASE, 1.0)], []),
    ],
)
def test_what_a_file_cannot_hold_is_unknown_with_its_fault(
    tmp_path: Path, samples: list[Sample], kept: list[tuple[float, float | None, float | None, str | None]]
) -> None:
    (request,) = make_plan(pace_of(1, -1, 0, "p95")).requests(NOON - MINUTE, NOON)
    found = samples_for(request, samples)
    assert [(repr(one.value), one.n, one.le, one.fault) for one in found] == [
        (repr(value), n, le, fault) for value, n, le, fault in kept
    ]
    if found:
        write_series(tmp_path / "series.csv", [found])
        assert same(read_series(tmp_path / "series.csv"), found)


def test_a_time_without_a_zone_is_refused() -> None:
    (request,) = make_plan(pace_of(1, -1, 0, "p95")).requests(NOON - MINUTE, NOON)
    with pytest.raises(SourceError, match="has no time zone"):
        samples_for(request, [Sample(NOON.replace(tzinfo=None), "p95", RELEASE, 1.0)])


def test_a_recording_in_memory_holds_what_a_file_would(tmp_path: Path) -> None:
    plan = make_plan()
    source = SamplesInMemory([Sample(NOON + at * MINUTE, "p95", RELEASE, at / 7) for at in range(70)])
    asyncio.run(record(tmp_path / "series.csv", plan, source, 7 * MINUTE))
    in_memory = RecordingInMemory(plan)
    asyncio.run(read_pages(source, in_memory, page=11 * MINUTE))
    assert in_memory.samples == read_series(tmp_path / "series.csv")
    assert len(in_memory.samples) == 60
