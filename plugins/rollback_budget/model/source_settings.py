"""What the settings of every source have in common."""

from __future__ import annotations

from rollback_budget.model.section import Section


class SourceSettings(Section):
    """The ``source:`` section of a budget file, for one type of source.

    A subclass names its type as ``type: Literal["acme"] = "acme"`` and adds its keys as fields with types and
    defaults; durations are ``timedelta``. A third party's settings are a subclass, too: a registered source
    names them as ``settings``. Four names mean the same wherever they occur:

    - ``conn_id``: the Airflow connection; sources with the same one share a circuit breaker,
    - ``timeout``: for one request; a fetch that takes much longer is given up,
    - ``late``: how far back every poll reads again, to report what came late,
    - ``path``: the file that is read.

    :param type: by which a budget file chooses the source.
    """

    type: str
