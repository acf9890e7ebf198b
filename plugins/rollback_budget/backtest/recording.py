"""Recordings: what a backtest tries a rule on, wherever the samples come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from rollback_budget.engine import Sample
from rollback_budget.engine.sample_columns import SampleColumns
from rollback_budget.engine.suspension import Suspension
from rollback_budget.model.label import Label
from rollback_budget.model.spec import RolloutSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording(ABC):
    """One past rollout; it travels to other processes, and its samples are read there.

    :param label: None for an unlabelled rollout.
    :param onset: when a bad one went bad, in UTC; None when not known.
    :param release: the version that was rolled out, when it is not the one that the budget names.
    :param baseline: likewise.
    :param start: when its window began; None: one step before the earliest sample.
    :param suspensions: what people suspended during it.
    :param is_whole: whether it shows all of the rollout; of one that was ended early it is not known what
        would have come.
    """

    label: Label | None = None
    onset: datetime | None = None
    release: str | None = None
    baseline: str | None = None
    start: datetime | None = None
    suspensions: tuple[Suspension, ...] = ()
    is_whole: bool = True

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is called, once among those that are tried together."""

    @property
    @abstractmethod
    def place(self) -> str:
        """Where it is; what is said of it begins with this."""

    @property
    @abstractmethod
    def relabel(self) -> str:
        """How a wrong label is put right, as an imperative."""

    @property
    def extend(self) -> str:
        """How more of the rollout comes to be recorded, as an imperative; empty where it cannot."""
        return ""

    @property
    def shorten(self) -> str:
        """How a recording that is too long is put right, as an imperative; empty where it cannot."""
        return ""

    @abstractmethod
    def samples(self) -> list[Sample]:
        """Return its samples, in any order.

        :raises SeriesError: they cannot be read; the message begins with the place.
        """

    def columns(self) -> SampleColumns | None:
        """Return its samples by columns, None where they come by :meth:`samples` only."""
        return None

    def untried(self, spec: RolloutSpec) -> Mapping[str, str]:  # noqa: ARG002
        """Return the budgets of ``spec`` that cannot be tried on it, by id, each with the reason."""
        return {}
