"""Looks that are compared all at once have the same deltas and statuses as those compared one by one."""

from __future__ import annotations

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollback_budget.engine.arm_columns import ArmColumns
from rollback_budget.engine.comparison import pointwise_comparator
from rollback_budget.engine.frame import Arms
from rollback_budget.model.budget import Comparison, Worse
from tests.engine.builders import budget
from tests.support.examples import examples

pytestmark = pytest.mark.pure

numpy = pytest.importorskip("numpy")

POINTWISE = [comparison for comparison in Comparison if comparison is not Comparison.INCREASE]
#: Some of them make a delta that is exactly at the threshold, at both its tolerances, or that overflows.
VALUES = st.one_of(
    st.sampled_from(
        (0.0, -0.0, 1.0, 1.15, 1.15 + 1e-13, 1.15 + 3e-9, 2.0, -3.0, nan, inf, -inf, 1e308, 5e-324)
    ),
    st.floats(allow_nan=True, allow_infinity=True),
)
COUNTS = st.sampled_from((nan, 0.0, 9.0, 10.0, 11.0, 1e9))
#: Release and baseline as near to a threshold as the two tolerances are wide.
NEAR = st.sampled_from(((1.15 + 1e-13, 1.15), (1.15 + 1e-11, 1.15), (1.15 + 1e-12, 1.0), (1.3, 1.15)))
LOOKS = st.lists(
    st.one_of(
        st.tuples(VALUES, COUNTS, VALUES, COUNTS),
        st.tuples(NEAR, COUNTS, COUNTS).map(lambda of: (of[0][0], of[1], of[0][1], of[2])),
    ),
    min_size=1,
    max_size=30,
)


@examples(300)
@given(
    looks=LOOKS,
    comparison=st.sampled_from(POINTWISE),
    worse=st.sampled_from(tuple(Worse)),
    threshold=st.sampled_from((0.0, 0.15, 15.0, 1.15, -2.0)),
    min_samples=st.sampled_from((0, 10)),
    cut=st.integers(0, 5),
)
def test_all_at_once_and_one_by_one_agree_to_the_last_bit(
    looks: list[tuple[float, ...]],
    comparison: Comparison,
    worse: Worse,
    threshold: float,
    min_samples: int,
    cut: int,
) -> None:
    comparator = pointwise_comparator(
        budget(comparison=comparison, worse=worse, threshold=threshold, min_samples=min_samples)
    )
    lists = [list(column) for column in zip(*looks, strict=True)]
    as_lists = Arms(*lists)
    as_arrays = Arms(*lists, columns=ArmColumns(*map(numpy.array, lists)))
    first = min(cut, len(looks) - 1)
    one_by_one, at_once = (comparator.view(arms, first, len(looks)) for arms in (as_lists, as_arrays))
    assert at_once.statuses == one_by_one.statuses
    for ours, theirs in zip(at_once.deltas, one_by_one.deltas, strict=True):
        is_unknown = not abs(theirs) < inf
        assert ours == theirs or (is_unknown and not abs(ours) < inf)
