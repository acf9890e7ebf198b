"""What is wrong with a budget file is said in one line each, at its place, all at once."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rollback_budget.budget_file import load_budget
from rollback_budget.exceptions import SpecError

pytestmark = pytest.mark.pure

GOOD = """\
release: new
baseline: old
window: 24h
rollback_budget:
  latency:
    p95_delta_pct: 15
    max_duration_min: 30
"""


def problems_of(path: Path, content: bytes | str) -> list[tuple[int, int, str]]:
    """Write a file, load it, and return line, column and message of every problem."""
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    with pytest.raises(SpecError) as caught:
        load_budget(path)
    assert all(problem.file == str(path) for problem in caught.value.problems)
    assert all(len(str(problem).splitlines()) == 1 for problem in caught.value.problems)
    return [(problem.line, problem.column, problem.message) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("old", "new", "place", "says"),
    [
        ("window: 24h", "windw: 24h", (3, 1), "did you mean `window`"),
        ("p95_delta_pct", "p95_delta_pc", (6, 5), "did you mean `p95_delta_pct`"),
        ("max_duration_min", "max_duration_mins", (7, 5), "did you mean `max_duration_min`"),
        ("    p95_delta_pct: 15\n", "", (6, 5), "no threshold"),
        ("p95_delta_pct: 15", "p95_delta_pct: 15\n    p99_above: 2", (7, 5), '"p95_delta_pct", "p99_above"'),
        ("15", "0", (6, 20), "worse: lower"),
        ("15", "15\n    worse: lower", (7, 12), "contradicts"),
        ("15", '"-2%"', (6, 20), "write -2 without quotes"),
        ("15", "yes", (6, 20), "must be a number, not a boolean"),
        ("15", ".nan", (6, 20), "finite"),
        ("15", "1e999", (6, 20), "number"),
        ("15", "-.inf", (6, 20), "finite"),
        ("p95_delta_pct: 15", "errors_increase: -1", (6, 22), "cannot be negative"),
        ("p95_delta_pct", "p95_above: 1\n    worse", (7, 12), "'higher' or 'lower'"),
        ("p95_delta_pct", '"a:b_delta_pct"', (6, 5), "slice"),
        ("max_duration_min: 30", "tier: b", (6, 5), "no duration"),
        ("max_duration_min: 30", "max_duration_min: -30", (7, 23), "negative"),
        ("max_duration_min: 30", 'max_duration_min: "30"', (7, 23), "write 30 without quotes"),
        ("max_duration_min: 30", "max_duration: 30", (7, 19), "write 30m"),
        ("max_duration_min: 30", "max_duration: -30m", (7, 19), "negative"),
        ("max_duration_min: 30", "max_duration: 1:30", (7, 19), "1h30m"),
        ("max_duration_min: 30", "max_duration: 30m\n    max_duration_min: 30", (8, 5), "the same"),
        ("max_duration_min: 30", "max_duration_min: 30\n    action: immediate_rollback", (7, 5), "remove"),
        ("max_duration_min: 30", "tier: b\n    action: immediate_rollback", (7, 11), "tier a"),
        ("max_duration_min: 30", "action:", (7, 12), "empty"),
        ("max_duration_min: 30", "max_duration_min: 1440", (7, 23), "never be used up"),
        ("max_duration_min: 30", "max_duration_min: 30\n    min_samples: 1.5", (8, 18), "whole number"),
        (
            "max_duration_min: 30",
            "max_duration_min: 30\n    min_samples: -1",
            (8, 18),
            "greater than or equal to 0",
        ),
        ("max_duration_min: 30", "max_duration_min: 30\n    tier: d", (8, 11), "'a', 'b' or 'c'"),
        ("release: new\n", "", (1, 1), "`release` is missing"),
        ("baseline: old\n", "", (1, 1), "`baseline` is missing"),
        ("window: 24h\n", "", (1, 1), "`window` is missing"),
        ("baseline: old", "baseline: new", (2, 11), "the same as `release`"),
        ("release: new", "release: on", (1, 10), 'write "on"'),
        ("release: new", "release: 2024-01-01", (1, 10), 'write "2024-01-01"'),
        ("release: new", "release:", (1, 9), "empty"),
        ("release: new", 'release: ""', (1, 10), "empty"),
        ("baseline: old", "baseline: 42", (2, 11), 'write "42"'),
        ("window: 24h", "window: 24", (3, 9), "write 24m"),
        ("window: 24h", "window: 0m", (3, 9), "longer than 0"),
        ("window: 24h", "window: 24 hours", (3, 9), "write it like"),
        ("window: 24h", "window: 99999999d", (3, 9), "longer than 365d"),
        ("window: 24h", "window: 30s", (3, 9), "too short for one look"),
        ("window: 24h", "window: 24h\nowner: yes", (4, 8), 'write "yes"'),
        ("window: 24h", "window: 24h\nincident_commander: 7", (4, 21), '"7"'),
        ("window: 24h", "window: 24h\nincident_commander: [a, a]", (4, 21), "twice"),
        ("window: 24h", "window: 24h\nincident_commander: {id: a, name: {}}", (4, 35), "must be text"),
        ("window: 24h", "window: 24h\nwindow: 12h", (4, 1), "stands twice, first in line 3"),
        ("window: 24h", "window: 24h\n<<: {owner: x}", (4, 1), "merge keys"),
        ("window: 24h", "window: 24h\nyes: x", (4, 1), 'write "yes"'),
        ("window: 24h", "window: 24h\nowner: !secret x", (4, 8), "quotes"),
        ("window: 24h", "window: 24h\nwatch: {poll: 0s}", (4, 15), "longer than 0"),
        ("window: 24h", "window: 24h\nwatch: {max_gap: 30s}", (4, 18), "shorter than `step`"),
        ("window: 24h", "window: 24h\nwatch: {grace: 24h}", (4, 16), "too short"),
        ("window: 24h", "window: 24h\nwatch: {on_blind: off}", (4, 19), "not off (a boolean)"),
        ("window: 24h", "window: 24h\nwatch:", (4, 7), "empty"),
        ("window: 24h", "window: 24h\nanalysis: {alpha: 5}", (4, 19), "between 0 and 1"),
        ("window: 24h", "window: 24h\nsource: {conn_id: x}", (4, 9), "type: sql"),
        ("window: 24h", "window: 24h\nsource: {type: sql}", (4, 9), "`conn_id` is missing"),
        (
            "window: 24h",
            "window: 24h\ndecision: {tier_a_breach: immediate_rollback}",
            (4, 27),
            "auto_rollback",
        ),
        (
            "window: 24h",
            "window: 24h\ndecision: {tier_b_breach: {max_overrides: 11}}",
            (4, 43),
            "equal to 10",
        ),
        ("window: 24h", "window: 24h\nmetrics: {p95: {kind: p95}}", (4, 23), "'quantile'"),
        ("  latency:\n", "  latency: []\n  x:\n", (5, 12), "an empty list"),
    ],
)
def test_mistake_is_named_at_its_place(
    tmp_path: Path, old: str, new: str, place: tuple[int, int], says: str
) -> None:
    assert old in GOOD
    found = problems_of(tmp_path / "x.yaml", GOOD.replace(old, new, 1))
    assert place in [(line, column) for line, column, _ in found]
    assert any(says in message for line, column, message in found if (line, column) == place), found


def test_all_problems_come_at_once_and_one_mistake_is_one_problem(tmp_path: Path) -> None:
    text = GOOD.replace("old", "new").replace("24h", "24").replace("15", "'x'").replace(": 30", ": -3")
    found = problems_of(tmp_path / "x.yaml", text + "servce: x\nsource: {type: sql}\nowner: no\n")
    places = [(line, column) for line, column, _ in found]
    assert places == [(2, 11), (3, 9), (6, 20), (7, 23), (8, 1), (9, 9), (10, 8)]


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        (b"", 1, "empty"),
        (b"# nothing\n", 1, "empty"),
        (b"- a\n", 1, "a list"),
        (b"hello", 1, "mapping"),
        (b"a: 1\nrelease: caf\xe9\n", 2, "byte 17 (0xe9) is not UTF-8"),
        ("a: b".encode("utf-16"), 1, "byte 0 (0xff)"),
        (b"a: 1\nb: \x00", 2, "U+0000"),
        (b"a:\n\tb: 1\n", 2, "tabs"),
        (b"a: [1\nb: 2", 2, "not valid YAML"),
        (GOOD.encode() + b"---\na: 1\n", 8, "second document"),
        (b"a: *nowhere\n", 1, "no anchor"),
        (b"a: &a [*a]\n", 1, "no anchor"),
        (b"a: !!python/object/apply:os.system ['true']\n", 1, "not allowed"),
    ],
)
def test_unreadable_file_says_where_and_why(tmp_path: Path, content: bytes, line: int, says: str) -> None:
    found = problems_of(tmp_path / "x.yaml", content)
    assert any(at == line and says in message for at, _, message in found), found


def laughs() -> bytes:
    """Return nine levels of nine aliases: 10^9 values when expanded."""
    levels = [b"a0: &a0 [x, x, x, x, x, x, x, x, x]\n"]
    levels += [b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 9)]
    return b"".join(levels)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (laughs(), "aliases that multiply"),
        (b"a: " + b"[" * 100_000, "levels"),
        (b"- " * 100_000, "levels"),
        (b"".join(b"k%d: 1\n" % n for n in range(50_000)), "10000 values"),
        (b"release: x\n" * (5 * 1024 * 1024 // 11), "1 MiB"),
        (b"window: " + b"9" * 1_000_000, "cannot be read"),
    ],
    ids=["laughs", "brackets", "dashes", "keys", "5 MB", "digits"],
)
def test_a_file_made_to_exhaust_is_refused_at_once(tmp_path: Path, content: bytes, says: str) -> None:
    started = time.process_time()
    found = problems_of(tmp_path / "x.yaml", content)
    assert any(says in message for _, _, message in found)
    # Seconds of slack on a slow machine; expanding any of these would take minutes or all memory.
    assert time.process_time() - started < 5


def test_small_aliases_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(GOOD.replace("15", "&margin 15") + "  other: {x_delta_pct: *margin, max_duration: 5m}\n")
    assert [budget.threshold for budget in load_budget(path).budgets] == [15, 15]


def test_missing_file_and_folder_are_problems_of_their_own(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing.yaml"):
        with pytest.raises(SpecError, match=re.escape(f"{path}:1:1: ")):
            load_budget(path)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.dates(),
    st.binary(max_size=3),
)
KEYS = (
    "release",
    "window",
    "rollback_budget",
    "latency",
    "p95_delta_pct",
    "max_duration_min",
    "tier",
    "decision",
)


@given(
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | SCALARS, inner),
        max_leaves=12,
    )
)
def test_any_yaml_loads_or_is_a_list_of_problems(
    tmp_path_factory: pytest.TempPathFactory, content: object
) -> None:
    path = tmp_path_factory.mktemp("any") / "x.yaml"
    for text in (
        yaml.safe_dump(content),
        GOOD + yaml.safe_dump({"watch": content, "incident_commander": content}),
    ):
        path.write_text(text, encoding="utf-8")
        assert all(len(line.splitlines()) == 1 for line in said_about(path))


def said_about(path: Path) -> list[str]:
    """Load a file and return what was wrong; anything but a SpecError fails the test."""
    try:
        load_budget(path)
    except SpecError as error:
        return [str(problem) for problem in error.problems]
    return []
