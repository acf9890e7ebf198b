"""Windows drawn from a record: the recorded looks, in blocks, with all that they share."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollback_budget.engine.frame import Arms
from rollback_budget.suggest.bootstrap import TOLERANCE, Bootstrap
from rollback_budget.suggest.record import NoChangeRecord, record_of
from tests.suggest.records import DAY, MINUTE, RELEASE, by_look, points, rollout
from tests.support.examples import examples

pytestmark = pytest.mark.pure


def numbered(minutes: int, hours: float = 24) -> NoChangeRecord:
    """A record whose every value says at which look and of which version it was recorded."""

    def of(minute: int, version: str) -> tuple[float, float | None]:
        return (minute - 1 + 0.25 * (version == RELEASE)) / 100_000, float(minute)

    other = points(id="quality.other_delta_pp", metric="other")
    spec = rollout(points(), other, hours=hours)
    return record_of(spec, [*by_look(of, minutes), *by_look(of, minutes, "other")])


RECORDS = {days: numbered(days * DAY) for days in (1, 3)}


def look_of(arms: Arms, place: int) -> int:
    return round(arms.baseline[place] * 100_000)


@given(days=st.sampled_from([1, 3]), block=st.integers(1, 2 * DAY), window=st.integers(0, 10_000))
@examples(40)
def test_a_window_is_made_of_recorded_looks_in_blocks_with_both_versions_and_all_series(
    days: int, block: int, window: int
) -> None:
    record = RECORDS[days]
    drawn = Bootstrap(record, block)
    arms = drawn.arms(window)
    main, other = arms[points().series], arms["other"]
    assert len(main.release) == len(drawn.times("other")) == DAY
    looks = [look_of(main, place) for place in range(DAY)]
    assert looks == drawn.places(window)
    for place, look in enumerate(looks):
        assert 0 <= look < days * DAY
        recorded = record.frame.arms[points().series]
        assert main.release[place] == recorded.release[look]
        assert main.release_n[place] == main.baseline_n[place] == recorded.release_n[look]
        assert (other.release[place], other.baseline[place]) == (main.release[place], main.baseline[place])
    breaks = sum(later != look + 1 for look, later in pairwise(looks))
    assert breaks <= (DAY - 1) // min(block, days * DAY)


@given(window=st.integers(0, 10_000), block=st.integers(1, 400))
@examples(40)
def test_with_days_enough_every_block_comes_from_its_own_time_of_day(window: int, block: int) -> None:
    looks = Bootstrap(RECORDS[3], block).places(window)
    begin = looks[0] % DAY
    furthest = TOLERANCE // MINUTE
    off = {(look - place - begin + DAY // 2) % DAY - DAY // 2 for place, look in enumerate(looks)}
    assert max(off) - min(off) <= 4 * furthest + block


def test_the_same_seed_draws_the_same_and_another_one_another() -> None:
    record = RECORDS[3]
    assert Bootstrap(record, 60, 7).places(5) == Bootstrap(record, 60, 7).places(5)
    assert Bootstrap(record, 60, 7).places(5) != Bootstrap(record, 60, 8).places(5)
    assert Bootstrap(record, 60, 7).places(5) != Bootstrap(record, 60, 7).places(6)


def test_all_looks_of_a_record_are_drawn_about_equally_often() -> None:
    record = RECORDS[3]
    drawn = [look for window in range(400) for look in Bootstrap(record, 90).places(window)]
    by_hour = [0] * 72
    for look in drawn:
        by_hour[look // 60] += 1
    usual = len(drawn) / 72
    inner = by_hour[2:-2]
    assert min(inner) > 0.7 * usual
    assert max(inner) < 1.4 * usual
