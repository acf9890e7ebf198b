"""Acme's router takes its weights from a JSON file with a generation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from rollback_budget.exceptions import TargetError
from rollback_budget.files import replace_file
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.target import TargetSettings
from rollback_budget.targets.base import Serving, TargetConnections, TrafficTarget, require_unchanged


class RouterSettings(TargetSettings):
    """``target: {type: acme_router, file: ...}``."""

    type: Literal["acme_router"] = "acme_router"
    file: str


class RouterFile(TrafficTarget):
    """Reads and replaces the file of the router."""

    settings = RouterSettings

    def __init__(self, file: Path) -> None:
        self._file = file

    @classmethod
    def open(cls, spec: RolloutSpec, connections: TargetConnections) -> RouterFile:
        assert isinstance(spec.target, RouterSettings)
        return cls(Path(spec.target.file))

    def read(self) -> Serving:
        try:
            document = json.loads(self._file.read_text())
        except OSError as error:
            raise TargetError(f"{self._file}: {error.strerror}") from error
        return Serving(document["weights"], str(document["generation"]))

    def apply(self, shares: Mapping[str, float], *, expected: Serving, idempotency_key: str) -> None:
        now = self.read()
        require_unchanged(expected, now)
        document = {
            "weights": dict(shares),
            "generation": int(now.revision or 0) + 1,
            "changed_by": idempotency_key,
        }
        replace_file(self._file, json.dumps(document))
