"""Who serves: the contract that every target keeps, and how one is registered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

from rollback_budget.exceptions import TargetError
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.target import TargetSettings
from rollback_budget.registry import Group, RegistryError, load_class

if TYPE_CHECKING:
    from rollback_budget.connections import ConnectionFields
    from rollback_budget.targets.http_responses import Send

#: Shares smaller than this are nothing: rounding in a gateway, not traffic.
NOTHING = 1e-6


@dataclass(frozen=True)
class Serving:
    """Who serves, as the control plane says it.

    :param shares: version -> fraction of traffic; they sum to 1, versions without traffic may be missing.
    :param revision: changes with every change, where the control plane has one.
    """

    shares: Mapping[str, float]
    revision: str | None = None

    def share(self, version: str) -> float:
        """Return the fraction of traffic that ``version`` gets."""
        return self.shares.get(version, 0.0)

    def same_shares(self, other: Mapping[str, float]) -> bool:
        """Whether every version gets what it gets in ``other``."""
        versions = self.shares.keys() | other.keys()
        return all(abs(self.share(version) - other.get(version, 0.0)) < NOTHING for version in versions)

    def __str__(self) -> str:
        serving = [
            f"{version} {100 * share:.4g} %"
            for version, share in sorted(self.shares.items())
            if share > NOTHING
        ]
        return ", ".join(serving) or "no version"


class Target(Protocol):
    """What changes of traffic need of a target; see :class:`TrafficTarget` for the contract."""

    def read(self) -> Serving:
        """Return who serves now."""
        ...

    def apply(self, shares: Mapping[str, float], *, expected: Serving, idempotency_key: str) -> None:
        """Set who serves, provided that ``expected`` still holds."""
        ...

    def rehearse(self, serving: Serving) -> tuple[str, ...]:
        """Try a rollback without changing anything."""
        ...


class TargetConnections(Protocol):
    """How a target reaches its control plane, so that it needs no Airflow."""

    def sender(self, conn_id: str, timeout: timedelta) -> Send:
        """Return what sends requests through an ``http`` connection.

        :param timeout: for one request.
        """
        ...

    def connection(self, conn_id: str) -> ConnectionFields:
        """Return the fields of any other connection. Raises :class:`TargetError`."""
        ...


class TrafficTarget(ABC):
    """A service whose traffic can be read and set. A subclass is registered as an entry point.

    The entry point is of ``rollback_budget.targets``; its name is what a budget file writes as ``type`` of
    its ``target``. The module of the subclass must be light: it is imported wherever a budget file is read,
    also while DAGs are parsed. Import clients inside :meth:`open`.

    An object is used by one task, in one thread; every method may block for up to the section's
    ``request_timeout``. It makes one attempt. Retries within the deadline, the verification on the control
    plane and on the data plane, and the refusal to overwrite a newer change of another user are the same for
    every target (see :mod:`rollback_budget.targets.apply`).

    Errors are :class:`TargetError`: with ``conflict=True`` where another user changed the traffic since it
    was read, with ``accepted=None`` where it is open whether a change took effect (its answer was lost), else
    with ``accepted=False``. Messages hold no secret.
    """

    settings: ClassVar[type[TargetSettings]]
    """The frozen type of the section ``target:``; its ``type`` is the entry point's name."""

    @classmethod
    @abstractmethod
    def open(cls, spec: RolloutSpec, connections: TargetConnections) -> Self:
        """Return the target that ``spec`` describes, without a request to it yet.

        ``spec.target`` is an object of :attr:`settings`. Raises :class:`TargetError`.
        """

    @classmethod
    def problems(cls, spec: RolloutSpec) -> Iterable[str]:  # noqa: ARG003
        """Return why traffic cannot be set through the target of ``spec``, without a request to it.

        One sentence each that names the key which is missing. Not asked where the team's own operators move
        the traffic, and the target is only read.
        """
        return ()

    @abstractmethod
    def read(self) -> Serving:
        """Return who serves now, in the names of the budget file (see :class:`Versions`)."""

    @abstractmethod
    def apply(self, shares: Mapping[str, float], *, expected: Serving, idempotency_key: str) -> None:
        """Set who serves, provided that ``expected`` still holds: compare and set.

        Applying the same shares again must change nothing more: a task whose worker died asks again, with the
        same ``idempotency_key``.

        :param shares: the release's and the baseline's fraction of traffic; they sum to 1.
        :param expected: what was read before; a change since then is a ``TargetError`` with ``conflict``.
            Where the control plane cannot compare and set in one step, see :func:`require_unchanged`.
        :param idempotency_key: the same for every try of the same change.
        """

    def rehearse(self, serving: Serving) -> tuple[str, ...]:  # noqa: ARG002
        """Try a rollback without changing anything: may we write, does the baseline exist and answer?

        :param serving: who serves, as it was just read.
        :return: what is known now, and what could not be tried, one sentence each.
        :raises TargetError: a rollback would fail.
        """
        return ("whether the traffic may be written was not tried: this type of target has no dry run",)


def target_class(name: str) -> type[TrafficTarget]:
    """Return the type of target that is registered as ``name``.

    :raises TargetError: there is none, or it cannot be imported.
    """
    try:
        return load_class(Group.TARGETS, name, TrafficTarget)
    except RegistryError as error:
        raise TargetError(str(error)) from error


class Versions:
    """What the control plane calls the two versions, and back.

    :param names: version of the budget file -> name of the control plane; others are called the same.
    """

    def __init__(self, release: str, baseline: str, names: Mapping[str, str]) -> None:
        self.release = release
        self.baseline = baseline
        self._theirs = {version: names.get(version, version) for version in (release, baseline)}
        self._ours = {theirs: version for version, theirs in self._theirs.items()}
        if len(self._ours) < 2:
            raise TargetError(
                f"target.versions calls {release} and {baseline} both {self._theirs[release]!r}; "
                "give each its own name"
            )

    def theirs(self, version: str) -> str:
        """Return the control plane's name of a version."""
        return self._theirs.get(version, version)

    def ours(self, name: str) -> str:
        """Return the version that the control plane calls ``name``."""
        return self._ours.get(name, name)


def require_unchanged(expected: Serving, now: Serving) -> None:
    """Refuse to overwrite: for control planes that cannot compare and write in one step.

    Between this look and the write lies one request; a change in it would be overwritten.
    """
    if expected.revision != now.revision or not now.same_shares(expected.shares):
        raise TargetError(
            f"someone changed the traffic since it was read: it was {expected}, it is {now}", conflict=True
        )


def may_rewrite(serving: Serving, versions: Versions) -> bool:
    """Whether writing what is there already says nothing new: only our two versions serve."""
    others = {version for version, share in serving.shares.items() if share > NOTHING}
    return bool(others) and others <= {versions.release, versions.baseline}


def rewrite_current(target: Target, serving: Serving, versions: Versions) -> str:
    """Write the shares that are there already; say that this was accepted."""
    if not may_rewrite(serving, versions):
        return f"not tried to write: others serve too ({serving})"
    shares = {version: serving.share(version) for version in (versions.release, versions.baseline)}
    try:
        target.apply(shares, expected=serving, idempotency_key=f"dry-run/{serving.revision or serving}")
    except TargetError as error:
        raise TargetError(
            f"writing what is there already was refused, so a rollback would be: {error}",
            conflict=error.conflict,
        ) from error
    return "writing what is there already was accepted"
