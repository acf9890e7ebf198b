"""Labels: how a rollout really went, as people say it afterwards."""

from __future__ import annotations

from enum import StrEnum


class Label(StrEnum):
    """How a rollout went: a bad one should have been stopped."""

    GOOD = "good"
    BAD = "bad"
