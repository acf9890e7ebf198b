"""How many inputs property tests get: the same few in every run, or many new ones with ``make search``."""

from __future__ import annotations

import os

from hypothesis import settings

_SEARCH = os.environ.get("HYPOTHESIS_PROFILE") == "search"

# The same inputs in every run, so that a change fails by its own fault and never by chance.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.register_profile("search", max_examples=2_000, deadline=None, print_blob=True)
settings.load_profile("search" if _SEARCH else "repeatable")


def examples(count: int) -> settings:
    """Run a property test with ``count`` inputs, and with twenty times as many in a search."""
    return settings(max_examples=20 * count if _SEARCH else count)
