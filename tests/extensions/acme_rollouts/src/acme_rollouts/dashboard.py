"""Acme's dashboard writes one JSON object a line: time, metric, version, value and number of requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from rollback_budget.engine.sample import Sample
from rollback_budget.exceptions import SourceError
from rollback_budget.model.source import SourceSettings
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.sources.base import MetricSource, SeriesRequest, SourceConnections


class DashboardSettings(SourceSettings):
    """``source: {type: acme_dashboard, path: ...}``."""

    type: Literal["acme_dashboard"] = "acme_dashboard"
    path: str
    timeout: timedelta = timedelta(seconds=5)


class Dashboard(MetricSource):
    """Reads the file of the dashboard."""

    settings = DashboardSettings

    def __init__(self, file: Path) -> None:
        self._file = file

    @classmethod
    async def open(cls, spec: RolloutSpec, connections: SourceConnections) -> Dashboard:
        assert isinstance(spec.source, DashboardSettings)
        return cls(Path(spec.source.path))

    async def fetch(self, request: SeriesRequest) -> Sequence[Sample]:
        try:
            text = await asyncio.to_thread(self._file.read_text)
        except OSError as error:
            raise SourceError(f"{self._file}: {error.strerror}", transient=True) from error
        found = (json.loads(line) for line in text.splitlines())
        return [
            Sample(time, point["metric"], point["version"], point["value"], point["n"])
            for point in found
            if point["metric"] in request.series
            and request.start < (time := datetime.fromisoformat(point["time"])) <= request.end
        ]
