"""What can be plugged in, found by name through entry points; ours are registered in the same groups."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from rollback_budget.exceptions import RollbackBudgetError

T = TypeVar("T")

#: A folder that is dropped into ``plugins/`` has no entry points, so that ours stand here, too. A test
#: compares this table with pyproject.toml.
_OURS: Mapping[str, Mapping[str, str]] = {
    "rollback_budget.sources": {
        "sql": "rollback_budget.sources.sql:SqlMetricSource",
        "prometheus": "rollback_budget.sources.prometheus:PrometheusMetricSource",
        "http_json": "rollback_budget.sources.http_json:HttpJsonMetricSource",
        "recorded": "rollback_budget.sources.recorded:RecordedSeries",
    },
    "rollback_budget.targets": {
        "http": "rollback_budget.targets.http:HttpControl",
        "mlflow": "rollback_budget.targets.mlflow:MlflowAlias",
        "unleash": "rollback_budget.targets.unleash:UnleashFlag",
        "flagd": "rollback_budget.targets.flagd:FlagdFile",
    },
    "rollback_budget.trackers": {
        "local": "rollback_budget.tickets.markdown:MarkdownBacklog",
        "jira": "rollback_budget.tickets.jira:JiraTicketTracker",
    },
    "rollback_budget.exporters": {
        "inspect": "rollback_budget.cases.export.inspect_ai:InspectExporter",
        "promptfoo": "rollback_budget.cases.export.promptfoo:PromptfooExporter",
        "deepeval": "rollback_budget.cases.export.deepeval:DeepEvalExporter",
        "mlflow": "rollback_budget.cases.export.mlflow:MlflowExporter",
    },
    "rollback_budget.notifiers": {
        "slack": "rollback_budget.notifications.notifiers:SLACK",
        "slack_webhook": "rollback_budget.notifications.notifiers:SLACK_WEBHOOK",
        "email": "rollback_budget.notifications.notifiers:EMAIL",
        "pagerduty": "rollback_budget.notifications.notifiers:PAGERDUTY",
        "teams": "rollback_budget.notifications.notifiers:TEAMS",
        "http": "rollback_budget.notifications.notifiers:HTTP",
    },
}


class Group(StrEnum):
    """The entry point groups. What is registered in each:

    - ``SOURCES``: a subclass of :class:`rollback_budget.sources.base.MetricSource`
    - ``TARGETS``: a subclass of :class:`rollback_budget.targets.base.TrafficTarget`
    - ``TRACKERS``: a subclass of :class:`rollback_budget.tickets.base.TicketTracker`
    - ``EXPORTERS``: a subclass of :class:`rollback_budget.cases.export.base.CaseExporter`
    - ``NOTIFIERS``: a :class:`rollback_budget.model.notify.NotifierEntry`
    """

    SOURCES = "rollback_budget.sources"
    TARGETS = "rollback_budget.targets"
    TRACKERS = "rollback_budget.trackers"
    EXPORTERS = "rollback_budget.exporters"
    NOTIFIERS = "rollback_budget.notifiers"


class RegistryError(RollbackBudgetError):
    """Something registered cannot be loaded, or nothing is registered by that name."""


def names(group: Group) -> list[str]:
    """Return every name that can be used in ``group``: ours first, then the others, sorted."""
    return [*_OURS[group], *sorted(_others()[group].keys() - _OURS[group].keys())]


def own_names(group: Group) -> list[str]:
    """Return the names of ours in ``group``, in the order of documentation; reads no entry points."""
    return list(_OURS[group])


def is_registered(group: Group, name: object) -> bool:
    """Whether ``name`` can be used in ``group``; reads entry points only for what is not ours."""
    return isinstance(name, str) and (name in _OURS[group] or name in _others()[group])


def conflicts() -> list[str]:
    """Return what is registered and never used, because its name is one of ours; one sentence each."""
    return [
        f"{_described(entry)} is registered as {entry.name!r} in {entry.group} and never used: that name is"
        " Rollback Budget's own"
        for group, ours in _OURS.items()
        for name in ours
        for entry in _others()[group].get(name, ())
        if entry.value != ours[name] and _distribution(entry) != "rollback-budget"
    ]


def load(group: Group, name: str) -> object:
    """Import and return what is registered as ``name``.

    Ours keep their names, whatever else is installed: a budget file must mean the same everywhere.

    :raises RegistryError: nothing is, two packages disagree about it, or importing it fails.
    """
    entry = _entry(group, name)
    try:
        return entry.load()
    except Exception as error:
        raise RegistryError(
            f"{_described(entry)}, registered as {name!r} in {group}, cannot be loaded:"
            f" {type(error).__name__}: {error}"
        ) from error


def load_class(group: Group, name: str, base: type[T]) -> type[T]:
    """Import and return the class that is registered as ``name``, which must be a subclass of ``base``.

    :raises RegistryError: it is not, or see :func:`load`.
    """
    found = load(group, name)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise RegistryError(
            f"{_described(_entry(group, name))}, registered as {name!r} in {group}, is no subclass of"
            f" {base.__module__}.{base.__qualname__}"
        )
    return found


def _entry(group: Group, name: str) -> EntryPoint:
    ours = _OURS[group].get(name)
    if ours is not None:
        return EntryPoint(name, ours, group.value)
    entries = _others()[group].get(name, ())
    if len(entries) > 1:
        said = " and ".join(map(_described, entries))
        raise RegistryError(
            f"{name!r} is registered in {group} more than once: {said}. Uninstall all but one"
        )
    if not entries:
        raise RegistryError(f"nothing is registered as {name!r} in {group}; known: {', '.join(names(group))}")
    return entries[0]


@cache
def _others() -> Mapping[str, Mapping[str, tuple[EntryPoint, ...]]]:
    """Return the entry points of all groups by name; more than one where packages disagree.

    Read once: with some 200 packages installed that takes a fifth of a second.
    """
    found: dict[str, dict[str, dict[str, EntryPoint]]] = {group: {} for group in _OURS}
    installed = entry_points()
    for group, each in found.items():
        for entry in installed.select(group=group):
            each.setdefault(entry.name, {}).setdefault(entry.value, entry)
    return {
        group: {name: tuple(entries.values()) for name, entries in each.items()}
        for group, each in found.items()
    }


def _described(entry: EntryPoint) -> str:
    distribution = _distribution(entry)
    return entry.value if distribution is None else f"{entry.value} (of {distribution})"


def _distribution(entry: EntryPoint) -> str | None:
    return None if entry.dist is None else entry.dist.name
