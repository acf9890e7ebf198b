"""What the settings of every source have in common."""

from __future__ import annotations

from rollback_budget.model.section import Section


class SourceSettings(Section):
    """Where a rollout's samples come from; subclasses say ``type`` as a literal, and what they need.

    A third party's settings are a subclass, too: a registered source names them as ``settings``.

    :param type: by which a budget file chooses the source.
    """

    type: str
