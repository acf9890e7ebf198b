"""A third party's source and target are written in a budget file like ours, and travel in the frozen spec."""

from __future__ import annotations

import warnings
from datetime import timedelta
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from rollback_budget import registry
from rollback_budget.budget_file import load_budget
from rollback_budget.exceptions import SpecError
from rollback_budget.model.source import SourceSettings, SqlSource
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.target import TargetSettings
from rollback_budget.sources.base import MetricSource

pytestmark = pytest.mark.pure

BUDGET = """\
release: new
baseline: old
window: 24h
rollback_budget: {latency: {p95_delta_pct: 15, max_duration_min: 30}}
"""


class LakeSettings(SourceSettings):
    """Settings of a source that is not ours."""

    positive: ClassVar[tuple[str, ...]] = ("freshness",)

    type: Literal["lake"] = "lake"
    bucket: str
    freshness: timedelta = timedelta(minutes=5)


class MeshSettings(TargetSettings):
    """Settings of a target that is not ours."""

    type: Literal["mesh"] = "mesh"
    route: str


class LakeSource(MetricSource):
    """What is registered as a source; nothing opens it here."""

    settings = LakeSettings


class MeshTarget:
    """What is registered as a target; nothing opens it here."""

    settings = MeshSettings


class Nothing:
    """Registered by mistake: it has no settings."""


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register a source, a target, and two mistakes."""
    entries = {
        registry.Group.SOURCES: {"lake": "LakeSource", "empty": "Nothing", "gone": "NotThere"},
        registry.Group.TARGETS: {"mesh": "MeshTarget"},
    }

    others = {
        group: {
            name: (EntryPoint(name, f"{__name__}:{of}", group.value),)
            for name, of in entries.get(group, {}).items()
        }
        for group in registry.Group
    }
    monkeypatch.setattr(registry, "_others", lambda: others)


def load(folder: Path, text: str) -> RolloutSpec:
    """Write a budget file and load it."""
    path = folder / "x.yaml"
    path.write_text(BUDGET + text, encoding="utf-8")
    return load_budget(path)


def problems_of(folder: Path, text: str) -> list[str]:
    """Return what is wrong with a budget file, with the places in it."""
    with pytest.raises(SpecError) as caught:
        load(folder, text)
    return [f"{one.line}:{one.column}: {one.message}" for one in caught.value.problems]


def test_registered_settings_are_read_strictly_and_travel_as_json(tmp_path: Path) -> None:
    spec = load(
        tmp_path,
        "source: {type: lake, bucket: b, freshness: 90s}\ntarget: {type: mesh, route: r, ship_share: 5%}\n",
    )
    assert spec.source == LakeSettings(bucket="b", freshness=timedelta(seconds=90))
    assert spec.target == MeshSettings(route="r", ship_share=0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = spec.canonical_json()
        assert '"source":{"bucket":"b","freshness":"PT1M30S","type":"lake"}' in text
        for again in (
            RolloutSpec.model_validate_json(text),
            RolloutSpec.model_validate_json(spec.model_dump_json()),
            RolloutSpec.model_validate(spec.model_dump()),
        ):
            assert again == spec
            assert again.sha256 == spec.sha256


def test_mistakes_in_registered_settings_have_their_places(tmp_path: Path) -> None:
    assert problems_of(tmp_path, "source: {type: lake, buket: b, freshness: 0s}\n") == [
        "5:9: `bucket` is missing; add `bucket: ...`",
        '5:22: unknown key "buket"; did you mean `bucket`?',
        "5:43: `freshness` must be longer than 0",
    ]


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("source: {type: lak}", "`source` has a type: `type: sql`, or prometheus, http_json or recorded"),
        ("source: {type: lak}", "registered here: empty, gone, lake"),
        ("target: {type: mush}", "mlflow, unleash or flagd; registered here: mesh"),
        ("source: {type: empty}", "has no `settings` that are a subclass of"),
        ("source: {type: gone}", "cannot be loaded"),
    ],
)
def test_an_unknown_type_is_said_with_those_that_are_registered(
    tmp_path: Path, written: str, says: str
) -> None:
    (problem,) = problems_of(tmp_path, written + "\n")
    assert problem.startswith("5:9: ")
    assert says in problem


def test_a_spec_whose_type_is_not_registered_here_is_refused(tmp_path: Path) -> None:
    text = load(tmp_path, "source: {type: lake, bucket: b}\n").canonical_json()
    with pytest.raises(ValueError, match="'lakes' found using 'type'"):
        RolloutSpec.model_validate_json(text.replace('"lake"', '"lakes"'))


def test_ours_are_not_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> None:
        raise AssertionError("entry points were read")

    monkeypatch.setattr(registry, "_others", never)
    spec = load(tmp_path, "source: {type: sql, conn_id: db}\ntarget: {conn_id: r, read: {path: /t}}\n")
    assert isinstance(spec.source, SqlSource)
    assert RolloutSpec.model_validate_json(spec.canonical_json()) == spec
