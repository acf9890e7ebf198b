"""A router, gateway or deploy controller that is read and set over HTTP."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Self
from urllib.parse import quote

import jmespath
from jmespath.exceptions import JMESPathError

from rollback_budget.exceptions import TargetError
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.target import HttpHealth, HttpTarget
from rollback_budget.targets.base import (
    NOTHING,
    Serving,
    TargetConnections,
    TrafficTarget,
    Versions,
    rewrite_current,
)
from rollback_budget.targets.http_responses import Send, read_json, require_accepted, said


class HttpControl(TrafficTarget):
    """The ``http`` target.

    :param config: how to read and write, from the budget file.
    :param release: version that ``$release`` stands for.
    :param baseline: version that ``$baseline`` stands for.
    :param send: performs one request against the connection's base URL.
    :param send_health: performs one against that of ``baseline_health``; by default the same.
    """

    settings = HttpTarget

    def __init__(
        self, config: HttpTarget, release: str, baseline: str, send: Send, send_health: Send | None = None
    ) -> None:
        self._config = config
        self._versions = Versions(release, baseline, config.versions)
        self._send = send
        self._send_health = send_health or send

    @classmethod
    def open(cls, spec: RolloutSpec, connections: TargetConnections) -> Self:
        """Return the target of ``spec``."""
        config = spec.target
        assert isinstance(config, HttpTarget)
        send = connections.sender(config.conn_id, config.request_timeout)
        health = config.baseline_health
        send_health = None
        if health is not None and health.conn_id is not None:
            send_health = connections.sender(health.conn_id, config.request_timeout)
        return cls(config, spec.release, spec.baseline, send, send_health)

    @classmethod
    def problems(cls, spec: RolloutSpec) -> Iterator[str]:
        """Yield that nothing says how to write."""
        assert isinstance(spec.target, HttpTarget)
        if spec.target.write is None:
            yield "target.write is missing: say how the traffic is set"

    def read(self) -> Serving:
        """Return who serves; raises :class:`TargetError` with what the control plane answered."""
        config = self._config.read
        response = self._send(config.method, fill_path(config.path, self._names()), None, {})
        document = read_json(response, f"{config.method} {config.path}")
        revision = None if config.revision is None else _search(config.revision, document)
        if config.release_share is not None:
            shares = self._halves(config.release_share, _search(config.release_share, document))
        else:
            found = _shares(config.weights, _search(config.weights, document))
            shares = {}
            for name, share in found.items():
                version = self._versions.ours(name)
                shares[version] = shares.get(version, 0.0) + share
        return Serving(shares=shares, revision=None if revision is None else str(revision))

    def apply(self, shares: Mapping[str, float], *, expected: Serving, idempotency_key: str) -> None:
        """Set who serves; 409 and 412 are conflicts, 5xx leaves open whether it took effect."""
        config = self._config.write
        if config is None:
            raise TargetError("the budget's target has no `write:`, so the traffic cannot be set through it")
        values = self._values(shares, expected, idempotency_key)
        response = self._send(
            config.method,
            fill_path(config.path, values),
            fill(config.body, values),
            _headers(config.headers, values),
        )
        require_accepted(response, f"{config.method} {config.path}")

    def rehearse(self, serving: Serving) -> tuple[str, ...]:
        """Send ``check``, ask ``baseline_health``, and write the current state where `dry_run` says so."""
        config = self._config
        findings = []
        if config.check is not None:
            values = self._values(serving.shares, serving, "dry-run")
            check = config.check
            response = self._send(
                check.method,
                fill_path(check.path, values),
                fill(check.body, values),
                _headers(check.headers, values),
            )
            if not response.ok:
                raise TargetError(
                    f"{check.method} {check.path} (target.check) answered {said(response)}, so a rollback"
                    " would be refused; give the connection the right to write",
                    accepted=None if response.ambiguous else False,
                )
            findings.append(f"target.check was answered with {response.status}")
        if config.dry_run == "write_current" and config.write is not None:
            findings.append(rewrite_current(self, serving, self._versions))
        if not findings and config.write is not None:
            findings.append(
                "whether the traffic may be written was not tried; `target.check`"
                " or `target.dry_run: write_current` would"
            )
        if config.baseline_health is not None:
            findings.append(self._ask_baseline(config.baseline_health))
        return tuple(findings)

    def _ask_baseline(self, config: HttpHealth) -> str:
        baseline = self._versions.baseline
        response = self._send_health("GET", fill_path(config.path, self._names()), None, {})
        asked = f"GET {config.path} (target.baseline_health)"
        if response.status != config.status:
            raise TargetError(f"{baseline} does not answer as it should: {asked} answered {said(response)}")
        if config.healthy is not None:
            try:
                document = response.json()
            except ValueError as error:
                raise TargetError(f"{asked} did not answer JSON: {said(response)}") from error
            healthy = _search(config.healthy, document)
            if healthy is not True:
                raise TargetError(
                    f"{baseline} says that it is not healthy: {asked} gave {healthy!r} for {config.healthy!r}"
                )
        return f"{baseline} answers"

    def _names(self) -> dict[str, str]:
        versions = self._versions
        return {
            "$release": versions.theirs(versions.release),
            "$baseline": versions.theirs(versions.baseline),
        }

    def _values(self, shares: Mapping[str, float], expected: Serving, key: str) -> dict[str, Any]:
        versions = self._versions
        release, baseline = (shares.get(name, 0.0) for name in (versions.release, versions.baseline))
        return {
            **self._names(),
            "$release_share": release,
            "$baseline_share": baseline,
            "$release_percent": _percent(release),
            "$baseline_percent": _percent(baseline),
            "$revision": expected.revision,
            "$idempotency_key": key,
        }

    def _halves(self, expression: str, found: Any) -> dict[str, float]:
        scale = self._config.read.scale
        if not _is_weight(found) or found > scale * (1 + NOTHING):
            raise TargetError(
                f"target.read.release_share {expression!r} gave {str(found)[:200]!r}; "
                f"it must give the release's share, a number from 0 to {scale:g}"
            )
        share = min(found / scale, 1.0)
        return {self._versions.release: share, self._versions.baseline: 1.0 - share}


def fill(template: Any, values: Mapping[str, Any]) -> Any:
    """Replace every whole string (key or value) that names a placeholder; nothing is interpolated as text."""
    if isinstance(template, str):
        return values.get(template, template)
    if isinstance(template, Mapping):
        return {fill(key, values): fill(value, values) for key, value in template.items()}
    if isinstance(template, list | tuple):
        return [fill(item, values) for item in template]
    return template


def fill_path(path: str, values: Mapping[str, Any]) -> str:
    """Replace path segments that name a placeholder by percent-encoded data."""
    return "/".join(
        quote(str(values[segment]), safe="") if segment in values else segment for segment in path.split("/")
    )


def _headers(templates: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, str]:
    """Fill headers; one without a value is left out."""
    return {
        name: str(value)
        for name, template in templates.items()
        if (value := fill(template, values)) is not None
    }


def _percent(share: float) -> float | int:
    """Many controllers take whole percents only, and refuse 5.0."""
    percent = round(100 * share, 6)
    return int(percent) if percent == int(percent) else percent


def _search(expression: str, document: Any) -> Any:
    try:
        return jmespath.search(expression, document)
    except JMESPathError as error:
        raise TargetError(f"JMESPath {expression!r} in the target cannot be used: {error}") from error


def _is_weight(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value >= 0


def _shares(expression: str, found: Any) -> dict[str, float]:
    pairs = list(found.items()) if isinstance(found, Mapping) else found
    usable = isinstance(pairs, list) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str) and _is_weight(pair[1])
        for pair in pairs
    )
    if not usable:
        raise TargetError(
            f"target.read.weights {expression!r} gave {str(found)[:200]!r}; it must give an object of"
            ' version -> weight, for example {"v1": 0.9, "v2": 0.1}, or a list of such pairs'
        )
    total = sum(weight for _, weight in pairs)
    if total <= 0:
        return {}
    shares: dict[str, float] = {}
    for version, weight in pairs:
        shares[version] = shares.get(version, 0.0) + weight / total
    return shares
