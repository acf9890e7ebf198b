"""Who serves: the contract that every target keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

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
    """A service whose traffic can be read and set. Implementations raise ``TargetError``."""

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
