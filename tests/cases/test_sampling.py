"""Which requests become cases: every slice has its share, and different texts go before similar ones."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollback_budget.cases.sampling import select_diverse
from rollback_budget.cases.truncate import truncate
from tests.support.examples import examples

pytestmark = pytest.mark.pure

Item = tuple[str | None, str]
items = st.lists(st.tuples(st.sampled_from([None, "de", "en", "fr"]), st.text(max_size=20)), max_size=40)


def chosen(among: list[Item], limit: int) -> list[Item]:
    return select_diverse(among, limit, slice_of=lambda item: item[0], text_of=lambda item: item[1])


@given(items, st.integers(1, 30))
def test_a_choice_is_as_large_as_it_may_be_and_takes_nothing_twice(among: list[Item], limit: int) -> None:
    numbered = [(slice_, f"{text} {number}") for number, (slice_, text) in enumerate(among)]
    taken = chosen(numbered, limit)
    assert len(taken) == min(limit, len(numbered))
    assert len(set(taken)) == len(taken)
    assert [item for item in numbered if item in set(taken)] == taken


@given(items, st.integers(1, 30), st.randoms(use_true_random=False))
def test_the_order_of_requests_changes_nothing(among: list[Item], limit: int, rng: random.Random) -> None:
    shuffled = list(among)
    rng.shuffle(shuffled)
    assert sorted(chosen(among, limit), key=repr) == sorted(chosen(shuffled, limit), key=repr)


@given(items, st.integers(1, 30))
def test_no_slice_is_left_out_while_another_has_two(among: list[Item], limit: int) -> None:
    taken = [item[0] for item in chosen(among, limit)]
    for slice_ in {item[0] for item in among}:
        if taken.count(slice_) < sum(item[0] == slice_ for item in among):
            assert all(taken.count(other) <= taken.count(slice_) + 1 for other in taken)


@examples(30)
@given(st.permutations(range(30)))
def test_rare_kinds_of_requests_are_found_among_many_alike(order: list[int]) -> None:
    alike = [(None, f"Where is my order number {number}? It should have come.") for number in range(27)]
    rare: list[Item] = [
        (None, "Refund me for the broken lamp"),
        (None, "Wie kann ich mein Passwort ändern?"),
        (None, "Please cancel the subscription of my mother"),
    ]
    every = [*alike, *rare]
    taken = chosen([every[place] for place in order], 4)
    assert set(rare) <= set(taken)


@given(
    st.recursive(
        st.text(max_size=400) | st.integers(), lambda inner: st.lists(inner, max_size=5), max_leaves=8
    )
)
def test_a_capped_value_is_short_and_says_what_is_missing(value: object) -> None:
    kept, left_out = truncate(value, 200)  # type: ignore[arg-type]
    assert (kept == value) == (left_out == 0)
    if left_out:
        assert "characters left out]" in repr(kept)
        again, more = truncate(kept, 10_000)
        assert (again, more) == (kept, 0)


def test_short_texts_stay_whole_beside_a_long_one() -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "x" * 5000}]
    kept, left_out = truncate(chat, 1000)
    assert kept[0] == chat[0]  # type: ignore[index]
    text = kept[1]["content"]  # type: ignore[index, call-overload]
    assert text.endswith(f"[... {left_out} characters left out]")
    assert 4000 < left_out < 4200


def test_a_mark_of_a_redaction_is_never_cut_in_half() -> None:
    text = "a" * 190 + "[redacted:email]" + "b" * 50
    for longest in range(188, 210):
        kept, _ = truncate(text, longest)
        assert "[redacted:email]" in kept or "[red" not in kept  # type: ignore[operator]
