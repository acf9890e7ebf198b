"""What is registered is found by name: ours everywhere, and that of others without any harm to ours."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from rollback_budget import registry
from rollback_budget.cases.export.base import CaseExporter
from rollback_budget.exceptions import SourceError, TargetError
from rollback_budget.model.notify import NotifierEntry
from rollback_budget.registry import Group, RegistryError, conflicts, load, load_class, names, own_names
from rollback_budget.sources.base import MetricSource, source_class
from rollback_budget.targets.base import TrafficTarget, target_class
from rollback_budget.tickets.base import TicketTracker

pytestmark = pytest.mark.pure

ROOT = Path(__file__).resolve().parents[2]
BASES = {
    Group.SOURCES: MetricSource,
    Group.TARGETS: TrafficTarget,
    Group.TRACKERS: TicketTracker,
    Group.EXPORTERS: CaseExporter,
}
OURS = [(group, name) for group in Group for name in own_names(group)]

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Put a distribution with entry points on the path, and forget it after the test."""

    def install(name: str, group: Group, **entries: str) -> None:
        folder = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [f"[{group}]", *(f"{entry} = {value}" for entry, value in entries.items())]
        (folder / "entry_points.txt").write_text("\n".join(lines))
        registry._others.cache_clear()

    monkeypatch.syspath_prepend(tmp_path)
    yield install
    registry._others.cache_clear()


def test_the_table_of_ours_and_the_projects_entry_points_say_the_same() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {
        group: dict(entries)
        for group, entries in project["entry-points"].items()
        if group.startswith("rollback_budget.")
    }
    assert declared == {group: dict(entries) for group, entries in registry._OURS.items()}
    assert set(declared) == {group.value for group in Group}


@pytest.mark.parametrize(("group", "name"), OURS)
def test_what_ours_are_registered_as_can_be_loaded(group: Group, name: str) -> None:
    assert name in names(group)
    if group is Group.NOTIFIERS:
        assert isinstance(load(group, name), NotifierEntry)
    else:
        assert load_class(group, name, BASES[group])


@pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group, name in OURS if group in (Group.SOURCES, Group.TARGETS)]
)
def test_a_section_is_of_the_type_under_which_its_class_is_registered(group: Group, name: str) -> None:
    settings = load_class(group, name, BASES[group]).settings
    assert settings.model_fields["type"].default == name


def test_what_a_budget_file_may_name_is_light_to_import() -> None:
    code = (
        "import sys\n"
        "from rollback_budget.registry import *\n"
        "for group in (Group.SOURCES, Group.TARGETS, Group.NOTIFIERS):\n"
        "    for name in own_names(group): load(group, name)\n"
        "print(sorted({'airflow', 'sqlalchemy', 'aiohttp', 'requests', 'msgspec'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_documented_example_is_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "how-to" / "extending.md").read_text()
    [example] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    module = ModuleType("acme_documented")
    monkeypatch.setitem(sys.modules, "acme_documented", module)
    exec(example, vars(module))
    assert issubclass(module.Dashboard, MetricSource)
    assert module.DashboardSettings(conn_id="acme").type == "acme_dashboard"


def test_an_unknown_name_is_an_error_that_says_the_known_ones() -> None:
    with pytest.raises(SourceError, match=r"nothing is registered as 'sqll'.*known: sql, prom") as raised:
        source_class("sqll")
    assert not raised.value.transient
    with pytest.raises(TargetError, match="nothing is registered as 'istio'"):
        target_class("istio")


def test_a_broken_entry_point_does_harm_only_where_it_is_used(install: Install) -> None:
    install("acme-broken", Group.SOURCES, acme="acme_that_is_not_there:Source")
    assert names(Group.SOURCES) == ["sql", "prometheus", "http_json", "recorded", "acme"]
    assert source_class("sql")
    with pytest.raises(
        SourceError, match=r"acme_that_is_not_there:Source \(of acme-broken\).*cannot be loaded"
    ):
        source_class("acme")


def test_something_of_another_kind_is_refused(install: Install) -> None:
    install("acme-wrong", Group.TARGETS, acme="rollback_budget.sources.recorded:RecordedSeries")
    with pytest.raises(TargetError, match=r"\(of acme-wrong\).*is no subclass of .*TrafficTarget"):
        target_class("acme")


def test_no_package_takes_a_name_of_ours_and_it_is_said(install: Install) -> None:
    install("acme-taker", Group.SOURCES, sql="rollback_budget.sources.recorded:RecordedSeries")
    assert source_class("sql").__name__ == "SqlMetricSource"
    [said] = conflicts()
    assert "(of acme-taker) is registered as 'sql' in rollback_budget.sources and never used" in said


def test_a_name_that_two_packages_give_to_different_things_is_not_guessed_at(install: Install) -> None:
    install("acme-one", Group.SOURCES, acme="rollback_budget.sources.recorded:RecordedSeries")
    install("acme-two", Group.SOURCES, acme="rollback_budget.sources.sql:SqlMetricSource")
    with pytest.raises(RegistryError, match=r"more than once: .*Uninstall all but one"):
        load(Group.SOURCES, "acme")


def test_a_package_that_two_folders_hold_is_one(install: Install, tmp_path: Path) -> None:
    install("acme-one", Group.SOURCES, acme="rollback_budget.sources.recorded:RecordedSeries")
    install("acme-copy", Group.SOURCES, acme="rollback_budget.sources.recorded:RecordedSeries")
    assert load(Group.SOURCES, "acme").__name__ == "RecordedSeries"  # type: ignore[attr-defined]
