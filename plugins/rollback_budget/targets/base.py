"""Who serves: the contract that every target keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from rollback_budget.exceptions import TargetError

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
        return ", ".join(serving) or "nobody"


class Target(Protocol):
    """A service whose traffic can be read and set. Implementations raise ``TargetError``.

    The third part of the contract, verifying, is the same for all: see :mod:`rollback_budget.targets.apply`.
    """

    def read(self) -> Serving:
        """Return who serves now."""
        ...

    def apply(self, shares: Mapping[str, float], *, expected: Serving, idempotency_key: str) -> None:
        """Set who serves, provided that ``expected`` still holds.

        :param shares: the release's and the baseline's fraction of traffic.
        :param expected: what was read before; a change since then is a ``TargetError`` with ``conflict``.
        :param idempotency_key: the same for every try of the same change.
        """
        ...

    def rehearse(self, serving: Serving) -> tuple[str, ...]:
        """Try the way back without changing anything: may we write, does the baseline exist and answer?

        :param serving: who serves, as it was just read.
        :return: what is known now, and what could not be tried, one sentence each.
        :raises TargetError: a rollback would fail.
        """
        ...


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
