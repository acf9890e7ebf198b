"""A feature flag's gradual rollout, through an Unleash-compatible admin API."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import quote

from rollback_budget.exceptions import TargetError
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.target import UnleashTarget
from rollback_budget.targets.base import (
    NOTHING,
    Serving,
    TargetConnections,
    TrafficTarget,
    Versions,
    require_unchanged,
    rewrite_current,
)
from rollback_budget.targets.http_responses import Send, read_json, require_accepted
from rollback_budget.text import plural

_GRADUAL = "flexibleRollout"
#: Variants share a thousand.
_ALL = 1000
_MAY_WRITE = {"ADMIN", "UPDATE_FEATURE_STRATEGY"}
#: What an update takes of a strategy; other fields are the server's own.
_UPDATED = ("name", "title", "disabled", "constraints", "parameters", "variants", "segments", "sortOrder")


class UnleashFlag(TrafficTarget):
    """The ``unleash`` target: a flag with one gradual rollout in one environment.

    The admin API cannot compare and write in one step, so a change by another user between the look right
    before a write and the write itself would be overwritten: one round trip, milliseconds.

    :param send: performs one request against the server.
    """

    settings = UnleashTarget

    def __init__(self, config: UnleashTarget, release: str, baseline: str, send: Send) -> None:
        self._config = config
        self._versions = Versions(release, baseline, config.versions)
        self._send = send
        flag, project, environment = (
            quote(name, safe="") for name in (config.flag, config.project, config.environment)
        )
        self._path = f"/api/admin/projects/{project}/features/{flag}/environments/{environment}"

    @classmethod
    def open(cls, spec: RolloutSpec, connections: TargetConnections) -> Self:
        """Return the target of ``spec``."""
        config = spec.target
        assert isinstance(config, UnleashTarget)
        send = connections.sender(config.conn_id, config.request_timeout)
        return cls(config, spec.release, spec.baseline, send)

    def read(self) -> Serving:
        """Return who serves; a flag that is off serves the baseline."""
        serving, _ = self._look()
        return serving

    def apply(self, shares: Mapping[str, float], *, expected: Serving, idempotency_key: str) -> None:  # noqa: ARG002
        """Set the rollout's percentage or its variants' weights; a flag that is off is switched on."""
        now, strategy = self._look()
        require_unchanged(expected, now)
        share = shares[self._versions.release]
        changed: dict[str, Any]
        if self._config.by == "variants":
            changed = {"variants": self._weighted(strategy.get("variants") or [], shares)}
        else:
            changed = {
                "parameters": {**strategy.get("parameters", {}), "rollout": str(whole_parts(share, 100))}
            }
        body = {key: strategy[key] for key in _UPDATED if strategy.get(key) is not None} | changed
        response = self._send("PUT", f"{self._path}/strategies/{quote(strategy['id'], safe='')}", body, {})
        require_accepted(response, f"setting the rollout of the flag {self._config.flag}")
        if strategy["flag_is_off"] and share > NOTHING:
            response = self._send("POST", f"{self._path}/on", None, {})
            require_accepted(response, f"switching the flag {self._config.flag} on")

    def rehearse(self, serving: Serving) -> tuple[str, ...]:
        """Look whether the flag divides traffic between our two versions."""
        findings = []
        _, strategy = self._look()
        if behind := _conditions(strategy):
            findings.append(
                f"the gradual rollout of {self._config.flag} is behind {behind}: its percentage is of the "
                "users who fulfil that, and of all traffic the release gets less than `ship_share`; users "
                "who do not are in the baseline's metrics alone, and may differ"
            )
        if self._config.by == "variants":
            self._weighted(strategy.get("variants") or [], serving.shares)
            findings.append(f"the flag {self._config.flag} has a variant for each version")
        if self._config.dry_run == "write_current":
            findings.append(rewrite_current(self, serving, self._versions))
        else:
            findings.append(self._say_permission())
        return tuple(findings)

    def _say_permission(self) -> str:
        """Say what this token may, where the server can be asked."""
        response = self._send("GET", "/api/admin/user", None, {})
        if response.ok:
            granted = [
                one for one in read_json(response, "GET /api/admin/user").get("permissions", []) if one
            ]
            names = {one.get("permission") for one in granted if self._is_ours(one)}
            if names & _MAY_WRITE:
                return f"the token may write: it has {', '.join(sorted(names & _MAY_WRITE))}"
        return "whether the flag may be written was not tried; `target.dry_run: write_current` would"

    def _is_ours(self, permission: Mapping[str, Any]) -> bool:
        wanted = {"project": self._config.project, "environment": self._config.environment}
        return all(permission.get(key) in (None, "", "*", value) for key, value in wanted.items())

    def _look(self) -> tuple[Serving, dict[str, Any]]:
        config = self._config
        what = f"the flag {config.flag} of project {config.project} in {config.environment}"
        document = read_json(self._send("GET", self._path, None, {}), what)
        strategies = document.get("strategies", [])
        gradual = [one for one in strategies if not one.get("disabled")]
        if len(gradual) != 1 or gradual[0].get("name") != _GRADUAL or "id" not in gradual[0]:
            names = ", ".join(str(one.get("name")) for one in gradual) or "none"
            raise TargetError(f"{what} needs just one active strategy, {_GRADUAL}, but has: {names}")
        strategy = gradual[0]
        is_off = not document.get("enabled", False)
        state = json.dumps([is_off, strategies], sort_keys=True)
        revision = hashlib.sha256(state.encode()).hexdigest()
        shares = {self._versions.baseline: 1.0} if is_off else self._shares(strategy, what)
        return Serving(shares, revision), {**strategy, "flag_is_off": is_off}

    def _shares(self, strategy: Mapping[str, Any], what: str) -> dict[str, float]:
        try:
            rollout = float(strategy.get("parameters", {}).get("rollout", 100)) / 100
            weights = {str(one["name"]): float(one["weight"]) for one in strategy.get("variants") or []}
        except (KeyError, TypeError, ValueError) as error:
            raise TargetError(f"{what} has a rollout or a weight that is no number: {error}") from error
        if self._config.by == "rollout":
            return {self._versions.release: rollout, self._versions.baseline: 1.0 - rollout}
        total = sum(weights.values())
        if total <= 0:
            raise TargetError(f"{what} has no variants; add one for each version, or write `by: rollout`")
        shares = {self._versions.ours(name): rollout * weight / total for name, weight in weights.items()}
        shares[self._versions.baseline] = shares.get(self._versions.baseline, 0.0) + 1.0 - rollout
        return shares

    def _weighted(self, variants: list[dict[str, Any]], shares: Mapping[str, float]) -> list[dict[str, Any]]:
        """Return the variants with the weights of ``shares``; every version needs one."""
        weights = {
            self._versions.theirs(version): whole_parts(share, _ALL) for version, share in shares.items()
        }
        missing = weights.keys() - {one.get("name") for one in variants}
        if missing:
            raise TargetError(
                f"the flag {self._config.flag} has no variant {', '.join(sorted(missing))}; add it, or say in"
                " `target.versions` what it is called"
            )
        # One variant at least has to take what the others leave.
        rest = self._versions.theirs(self._versions.baseline)
        return [
            {
                **one,
                "weight": weights.get(str(one.get("name")), 0),
                "weightType": "variable" if one.get("name") == rest else "fix",
            }
            for one in variants
        ]


def _conditions(strategy: Mapping[str, Any]) -> str:
    """Say what users must fulfil to be divided at all; empty where all are."""
    constraints = [
        f"{one.get('contextName', '?')} {one.get('operator', '?')}"
        for one in strategy.get("constraints") or []
    ]
    segments = strategy.get("segments") or []
    said = [f"the constraint {one}" for one in constraints]
    return ", ".join(said + ([plural(len(segments), "segment")] if segments else []))


def whole_parts(share: float, parts: int) -> int:
    """Return a share as a whole number of ``parts``; raises :class:`TargetError` when it is none."""
    whole = round(parts * share)
    if abs(parts * share - whole) > parts * NOTHING:
        finest = "whole percents; use those, or `by: variants`" if parts == 100 else "tenths of a percent"
        raise TargetError(f"{100 * share:g} % cannot be set: a flag's rollout knows {finest}")
    return whole
