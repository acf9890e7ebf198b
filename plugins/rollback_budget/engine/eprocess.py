"""Evidence over time: one test that began with the budget, and one that begins anew at every block."""

from __future__ import annotations

from math import exp, inf, log, log1p
from typing import Self

#: Rejecting is inclusive, and ``D`` times a ``D``-th part is not always the whole.
_TOLERANCE = 1e-9


class EProcess:
    """Adds up the log evidence of blocks for several alternatives (design 5.2, steps 3 to 5).

    Under no harm, the mean over the alternatives of ``exp(from_start)`` exceeds ``2/alpha`` at any time with
    probability of at most ``alpha/2`` (Ville's inequality), and the mean of ``exp(from_any)``, a
    Shiryaev-Roberts detector, exceeds ``2 T/alpha`` within ``T`` blocks with at most as much (Shin, Ramdas,
    Rinaldo 2024). Cutting what one block may add only lowers them.

    :param alpha: the budget's share of the rollout's false-rollback rate.
    :param blocks: how many blocks fit in the budget's duration: with fewer nothing is rejected.
    :param in_window: how many blocks fit in the window.
    :param alternatives: how many log evidences a block brings.
    """

    __slots__ = (
        "_any",
        "_any_cap",
        "_any_limit",
        "_climb",
        "_climb_start",
        "_log_alpha",
        "_most",
        "_start",
        "_start_cap",
        "_start_limit",
        "index",
        "rejects",
    )

    def __init__(self, *, alpha: float, blocks: int, in_window: int, alternatives: int) -> None:
        self._log_alpha = log(alpha)
        self._start_limit = log(2.0 / alpha)
        self._any_limit = log(2.0 * max(in_window, 1) / alpha)
        self._start_cap = self._start_limit / blocks
        self._any_cap = self._any_limit / (blocks + 1)
        # Tuples of numbers: the garbage collector does not track them, and thousands of watches hold them.
        self._start = (0.0,) * alternatives
        self._any = (-inf,) * alternatives
        #: For each alternative, how far its evidence has climbed since it last stood at zero, and since when.
        self._climb = (0.0,) * alternatives
        self._climb_start = (0,) * alternatives
        #: The latest block that was folded.
        self.index = -1
        #: Whether the evidence is sufficient now.
        self.rejects = False
        #: The most evidence so far, in nats beyond a limit; it begins where the p-value is 1.
        self._most = self._log_alpha

    def update(self, index: int, logs: list[float]) -> bool:
        """Fold block ``index``; return False and change nothing when that one, or a later one, is folded.

        :param logs: the log evidence of the block, one an alternative.
        """
        if index <= self.index:
            return False
        self.index = index
        start, anywhere = list(self._start), list(self._any)
        climb, begun = list(self._climb), list(self._climb_start)
        start_cap, any_cap = self._start_cap, self._any_cap
        for place, evidence in enumerate(logs):
            start[place] += evidence if evidence < start_cap else start_cap
            if evidence > any_cap:
                evidence = any_cap
            anywhere[place] = softplus(anywhere[place]) + evidence
            if climb[place] <= 0.0:
                climb[place] = evidence
                begun[place] = index
            else:
                climb[place] += evidence
        self._start, self._any = tuple(start), tuple(anywhere)
        self._climb, self._climb_start = tuple(climb), tuple(begun)
        # The largest is at least the mean: usually it is enough to see that nothing was reached.
        most = max(max(start) - self._start_limit, max(anywhere) - self._any_limit)
        if most > self._most or most >= -_TOLERANCE:
            most = max(log_mean_exp(start) - self._start_limit, log_mean_exp(anywhere) - self._any_limit)
            self._most = max(self._most, most)
        self.rejects = most >= -_TOLERANCE
        return True

    @property
    def p_value(self) -> float:
        """The smallest so far, which is valid whenever one looks: ``2 min(1/A, T/B)``, at most 1.

        ``2/A`` is alpha when A is at its limit, and so is ``2 T/B`` when B is.
        """
        return exp(self._log_alpha - self._most)

    @property
    def since(self) -> int:
        """The block in which the evidence of the strongest alternative began to climb."""
        return self._climb_start[max(range(len(self._climb)), key=self._climb.__getitem__)]

    def copy(self) -> Self:
        """Return one that goes on from here on its own."""
        clone = type(self).__new__(type(self))
        for name in self.__slots__:
            setattr(clone, name, getattr(self, name))
        return clone


def softplus(value: float) -> float:
    """Return ``log(1 + exp(value))``, whatever its size."""
    return value + log1p(exp(-value)) if value > 0.0 else log1p(exp(value))


def log_mean_exp(logs: list[float]) -> float:
    """Return the log of the mean of the exponentials, whatever their size."""
    most = max(logs)
    if most == -inf:
        return -inf
    return most + log(sum(exp(value - most) for value in logs) / len(logs))
