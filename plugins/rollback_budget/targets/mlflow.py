"""An alias in an MLflow model registry, through the tracking server's REST API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import urlencode

from rollback_budget.exceptions import TargetError
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.target import MlflowTarget
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

_API = "/api/2.0/mlflow"


class _NoSuchVersionError(TargetError):
    """The registry answers, and has no version, or more than one, that the budget could mean."""


class MlflowAlias(TrafficTarget):
    """The ``mlflow`` target: what an alias points at is what serves.

    The registry cannot compare and write in one step, so a change by another user between the look right
    before a write and the write itself would be overwritten: one round trip, milliseconds.

    :param send: performs one request against the tracking server.
    """

    settings = MlflowTarget

    def __init__(self, config: MlflowTarget, release: str, baseline: str, send: Send) -> None:
        self._config = config
        self._versions = Versions(release, baseline, config.versions)
        self._send = send

    @classmethod
    def open(cls, spec: RolloutSpec, connections: TargetConnections) -> Self:
        """Return the target of ``spec``."""
        config = spec.target
        assert isinstance(config, MlflowTarget)
        send = connections.sender(config.conn_id, config.request_timeout)
        return cls(config, spec.release, spec.baseline, send)

    def read(self) -> Serving:
        """Return who serves: all of it by the alias, or ``ship_share`` of it by the candidate's alias."""
        config = self._config
        champion = self._aliased(config.alias)
        if champion is None:
            raise TargetError(
                f"the registered model {config.model} has no alias {config.alias}; set it to the version"
                " that serves, or correct `target.alias`"
            )
        candidate = self._candidate()
        if candidate is None or candidate == champion:
            return Serving({self._name_of(champion): 1.0}, f"{champion}/{candidate}")
        share = config.ship_share
        shares = {self._name_of(champion): 1.0 - share, self._name_of(candidate): share}
        return Serving(shares, f"{champion}/{candidate}")

    def apply(self, shares: Mapping[str, float], *, expected: Serving, idempotency_key: str) -> None:  # noqa: ARG002
        """Point the aliases at the versions that shall serve; a registry needs no key to do it once."""
        config, versions = self._config, self._versions
        share = shares[versions.release]
        # A rollback needs no release that can be resolved: perhaps somebody has deleted it.
        champion = self._number_of(versions.release if share >= 1 - NOTHING else versions.baseline)
        wanted = {config.alias: champion}
        if config.candidate_alias is not None:
            serves = share > NOTHING
            wanted[config.candidate_alias] = self._number_of(versions.release) if serves else champion
        elif NOTHING < share < 1 - NOTHING:
            raise TargetError(
                f"the alias {config.alias} alone cannot give {100 * share:g} % to {versions.release};"
                " name `target.candidate_alias`, or write `ship_share: 100%`"
            )
        require_unchanged(expected, self.read())
        # The candidate's first: at a rollback it is what serves the release.
        for alias in sorted(wanted, key=lambda name: name == config.alias):
            body = {"name": config.model, "alias": alias, "version": wanted[alias]}
            response = self._send("POST", f"{_API}/registered-models/alias", body, {})
            require_accepted(
                response, f"setting the alias {alias} of {config.model} to version {wanted[alias]}"
            )

    def rehearse(self, serving: Serving) -> tuple[str, ...]:
        """Look whether both versions exist and are ready."""
        findings = []
        for version in (self._versions.baseline, self._versions.release):
            number = self._number_of(version)
            document = self._get("/model-versions/get", name=self._config.model, version=number)
            status = document.get("model_version", {}).get("status")
            if status != "READY":
                raise TargetError(
                    f"version {number} of {self._config.model} ({version}) is {status}, not READY"
                )
            findings.append(f"version {number} of {self._config.model} ({version}) is ready")
        alias = self._config.candidate_alias
        if alias is not None and self._candidate() is None:
            findings.append(
                f"the alias {alias} of {self._config.model} points at no version, so that nothing of it "
                "serves; shipping sets it"
            )
        if self._config.dry_run == "write_current":
            findings.append(rewrite_current(self, serving, self._versions))
        else:
            findings.append(
                "whether the alias may be written was not tried; `target.dry_run: write_current` would"
            )
        return tuple(findings)

    def _candidate(self) -> str | None:
        """Return the number of the candidate; what cannot be resolved does not serve."""
        alias = self._config.candidate_alias
        return None if alias is None else self._aliased(alias)

    def _aliased(self, alias: str) -> str | None:
        """Return the number of the version that an alias points at."""
        query = urlencode({"name": self._config.model, "alias": alias})
        response = self._send("GET", f"{_API}/registered-models/alias?{query}", None, {})
        # A missing alias is INVALID_PARAMETER_VALUE, a missing model RESOURCE_DOES_NOT_EXIST.
        if response.status in (400, 404) and f"alias {alias} not found" in response.text:
            return None
        # It may still point at a version that was deleted.
        if response.status == 404 and "Model Version" in response.text:
            return None
        document = read_json(response, f"the alias {alias} of the registered model {self._config.model}")
        return str(document.get("model_version", {}).get("version"))

    def _number_of(self, version: str) -> str:
        config = self._config
        if config.version_tag is None or version in config.versions:
            number = self._versions.theirs(version)
            if not number.isdecimal():
                raise TargetError(
                    f"{version} names no version of the registered model {config.model}; add"
                    f" `target.versions: {{{version}: <number>}}`, or `target.version_tag`"
                )
            return number
        criteria = (
            f"name = {_quoted(config.model)} and tags.{_quoted(config.version_tag, '`')} = {_quoted(version)}"
        )
        document = self._get("/model-versions/search", filter=criteria, max_results="2")
        found = [str(one.get("version")) for one in document.get("model_versions", [])]
        if len(found) != 1:
            many = "more than one version" if found else "no version"
            raise _NoSuchVersionError(
                f"{many} of {config.model} has the tag {config.version_tag} = {version!r}"
            )
        return found[0]

    def _name_of(self, number: str) -> str:
        """Return what the budget calls a model version; one that it does not know keeps its number.

        :raises TargetError: neither of the budget's versions can be resolved.
        """
        unknown = []
        for version in (self._versions.release, self._versions.baseline):
            try:
                if self._number_of(version) == number:
                    return version
            except _NoSuchVersionError as error:
                unknown.append(error)
        if len(unknown) == 2:
            raise unknown[-1]
        return f"version {number}"

    def _get(self, path: str, **query: str) -> Any:
        response = self._send("GET", f"{_API}{path}?{urlencode(query)}", None, {})
        return read_json(response, f"GET {_API}{path} of {self._config.model}")


def _quoted(text: str, mark: str = "'") -> str:
    """Quote a value of a search filter, which knows no escapes."""
    for other in (mark, '"') if mark == "'" else (mark,):
        if other not in text:
            return f"{other}{text}{other}"
    raise TargetError(f"{text!r} cannot stand in a search of the registry; use `target.versions`")
