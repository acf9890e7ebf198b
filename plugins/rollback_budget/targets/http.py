"""A router, gateway or deploy controller that is read and set over HTTP."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import quote

import jmespath
from jmespath.exceptions import JMESPathError

from rollback_budget.errors import TargetError
from rollback_budget.spec.model import RolloutSpec
from rollback_budget.spec.target import HttpTarget
from rollback_budget.targets.target import Serving


class Reply(Protocol):
    """What is read from an HTTP response (``requests`` and ``httpx`` responses fit)."""

    status_code: int

    @property
    def text(self) -> str:
        """The body as text."""
        ...

    def json(self) -> Any:
        """Return the decoded body."""
        ...


#: ``send(method, path, body, headers)``. It does not raise for a status, and raises TargetError with
#: ``accepted=False`` when nothing was sent, ``accepted=None`` when the reply was lost.
Send = Callable[[str, str, Any, Mapping[str, str]], Reply]


class HttpControl:
    """The ``http`` target.

    :param config: how to read and write, from the budget file.
    :param release: version that ``$release`` stands for.
    :param baseline: version that ``$baseline`` stands for.
    :param send: performs one request against the connection's base URL.
    """

    def __init__(self, config: HttpTarget, release: str, baseline: str, send: Send) -> None:
        self._config = config
        self._release = release
        self._baseline = baseline
        self._send = send

    @classmethod
    def of(cls, spec: RolloutSpec, send: Send) -> HttpControl:
        """Build the target that ``spec`` describes."""
        assert spec.target is not None
        return cls(spec.target, spec.release, spec.baseline, send)

    def read(self) -> Serving:
        """Return who serves; raises :class:`TargetError` with what the control plane answered."""
        config = self._config.read
        names = {"$release": self._release, "$baseline": self._baseline}
        reply = self._send(config.method, fill_path(config.path, names), None, {})
        if not 200 <= reply.status_code < 300:
            raise TargetError(f"{config.method} {config.path} answered {_said(reply)}")
        try:
            document = reply.json()
        except ValueError as error:
            raise TargetError(f"{config.method} {config.path} did not answer JSON: {_said(reply)}") from error
        revision = None if config.revision is None else _search(config.revision, document)
        return Serving(
            shares=_shares(config.weights, _search(config.weights, document)),
            revision=None if revision is None else str(revision),
        )

    def apply(self, shares: Mapping[str, float], *, expected: Serving, idempotency_key: str) -> None:
        """Set who serves; 409 and 412 are conflicts, 5xx leaves open whether it took effect."""
        config = self._config.write
        if config is None:
            raise TargetError("the budget's target has no `write:`, so the traffic cannot be set through it")
        values = {
            "$release": self._release,
            "$baseline": self._baseline,
            "$release_share": shares[self._release],
            "$baseline_share": shares[self._baseline],
            "$revision": expected.revision,
            "$idempotency_key": idempotency_key,
        }
        headers = {
            name: str(value)
            for name, template in config.headers.items()
            if (value := fill(template, values)) is not None
        }
        reply = self._send(config.method, fill_path(config.path, values), fill(config.body, values), headers)
        if 200 <= reply.status_code < 300:
            return
        said = f"{config.method} {config.path} answered {_said(reply)}"
        if reply.status_code in (409, 412):
            raise TargetError(f"{said}: someone changed the traffic since it was read", conflict=True)
        raise TargetError(said, accepted=None if reply.status_code >= 500 else False)


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


def _search(expression: str, document: Any) -> Any:
    try:
        return jmespath.search(expression, document)
    except JMESPathError as error:
        raise TargetError(f"JMESPath {expression!r} in target.read cannot be used: {error}") from error


def _shares(expression: str, weights: Any) -> dict[str, float]:
    usable = isinstance(weights, Mapping) and all(
        isinstance(weight, int | float)
        and not isinstance(weight, bool)
        and math.isfinite(weight)
        and weight >= 0
        for weight in weights.values()
    )
    if not usable:
        raise TargetError(
            f"target.read.weights {expression!r} gave {str(weights)[:200]!r}; "
            'it must give an object of version -> weight, for example {"v1": 0.9, "v2": 0.1}'
        )
    total = sum(weights.values())
    if total <= 0:
        return {}
    return {str(version): weight / total for version, weight in weights.items()}


def _said(reply: Reply) -> str:
    return f"{reply.status_code} {reply.text[:200].strip()!r}"
