"""What can be plugged in, found by name through entry points; ours are registered in the same groups."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from rollback_budget.exceptions import RollbackBudgetError

_OURS: Mapping[str, Mapping[str, str]] = {
    "rollback_budget.sources": {},
    "rollback_budget.targets": {},
    "rollback_budget.trackers": {},
    "rollback_budget.exporters": {},
    "rollback_budget.notifiers": {},
}


class Group(StrEnum):
    """The entry point groups; each has a base class of its own, see the how-to page on extending."""

    SOURCES = "rollback_budget.sources"
    TARGETS = "rollback_budget.targets"
    TRACKERS = "rollback_budget.trackers"
    EXPORTERS = "rollback_budget.exporters"
    NOTIFIERS = "rollback_budget.notifiers"


class RegistryError(RollbackBudgetError):
    """Something registered cannot be loaded, or nothing is registered by that name."""


def names(group: Group) -> list[str]:
    """Return every name that can be used in ``group``, sorted."""
    return sorted(_found(group))


def load(group: Group, name: str) -> object:
    """Import and return what is registered as ``name``.

    :raises RegistryError: nothing is, or importing it fails.
    """
    entry = _found(group).get(name)
    if entry is None:
        raise RegistryError(f"nothing is registered as {name!r} in {group}; known: {', '.join(names(group))}")
    try:
        return entry.load()
    except Exception as error:
        raise RegistryError(
            f"{entry.value}, registered as {name!r} in {group}, cannot be loaded: {error}"
        ) from error


@cache
def _found(group: Group) -> Mapping[str, EntryPoint]:
    """Ours come from a table, too: a folder that is dropped into ``plugins/`` has no entry points."""
    ours = {name: EntryPoint(name, value, group.value) for name, value in _OURS[group].items()}
    others = {entry.name: entry for entry in entry_points(group=group.value)}
    return {**others, **ours}
