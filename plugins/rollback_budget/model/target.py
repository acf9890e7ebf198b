"""Who serves a rollout's traffic, and how to read and change it, as the spec says it."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import Field

from rollback_budget.model.base import Frozen


class Stage(Frozen):
    """One step of a rollout's ramp.

    :param traffic: the release's fraction of traffic, between 0 and 1.
    :param hold: how long it stays before the next step.
    """

    traffic: float = Field(gt=0, le=1)
    hold: timedelta


class TargetSettings(Frozen):
    """What every target has.

    :param ship_share: fraction of traffic for the release while it is watched, between 0 and 1.
    :param stages: steps on the way to ``ship_share``; none: it gets that share at once.
    :param versions: what the control plane calls a version of the budget file, where that is another name.
    :param deadline: how long a rollback may take until it is verified.
    :param request_timeout: how long one request may take.
    :param dry_run: ``write_current`` makes preflight write the shares that are there, to prove that it may.
    """

    ship_share: float = Field(default=0.5, gt=0, le=1)
    stages: tuple[Stage, ...] = ()
    versions: dict[str, str] = Field(default_factory=dict)
    deadline: timedelta = timedelta(minutes=5)
    request_timeout: timedelta = timedelta(seconds=10)
    dry_run: Literal["none", "write_current"] = "none"

    @property
    def ramp(self) -> tuple[float, ...]:
        """The shares of traffic that the release gets one after another."""
        return (*(stage.traffic for stage in self.stages), self.ship_share)


class HttpRead(Frozen):
    """How to ask who serves.

    :param weights: JMESPath to an object of version -> share of traffic, or to a list of pairs of those (any
        scale; shares are normalised).
    :param release_share: JMESPath to the release's share alone, where the control plane names no versions;
        the baseline has the rest. Then ``weights`` is not used.
    :param scale: what stands for all traffic in ``release_share``: 1, or 100 for percent.
    :param revision: JMESPath to a revision or ETag that changes with every change; None when there is none.
    """

    method: Literal["GET", "POST"] = "GET"
    path: str
    weights: str = "weights"
    release_share: str | None = None
    scale: float = Field(default=1.0, gt=0)
    revision: str | None = None


class HttpWrite(Frozen):
    """How to set who serves.

    Whole strings (keys and values) in ``body`` and ``headers`` that equal ``$release``, ``$baseline``,
    ``$release_share``, ``$baseline_share``, ``$release_percent``, ``$baseline_percent``, ``$revision`` or
    ``$idempotency_key`` are replaced by data, and so are path segments (percent-encoded). Nothing is ever
    interpolated as text.
    """

    method: Literal["PUT", "POST", "PATCH"] = "PUT"
    path: str
    body: Any = None
    headers: dict[str, str] = Field(default_factory=dict)


class HttpCheck(Frozen):
    """A request that changes nothing, and shows before shipping that a rollback would be accepted.

    The placeholders of :class:`HttpWrite` stand for what is served now. Any 2xx is good.
    """

    method: Literal["GET", "HEAD", "OPTIONS", "PUT", "POST", "PATCH"] = "GET"
    path: str
    body: Any = None
    headers: dict[str, str] = Field(default_factory=dict)


class HttpHealth(Frozen):
    """A request that the baseline itself answers.

    :param conn_id: another ``http`` connection than the target's; None for the same.
    :param status: the status of a healthy answer.
    :param healthy: JMESPath that gives true for a healthy answer; None: the status says it all.
    """

    path: str
    conn_id: str | None = None
    status: int = Field(default=200, ge=100, le=599)
    healthy: str | None = None


class HttpTarget(TargetSettings):
    """A router, gateway or deploy controller behind an Airflow ``http`` connection.

    :param write: None when a team's own operators move the traffic, and it is only read here.
    :param check: what preflight asks to know that it may write; None: nothing is asked.
    :param baseline_health: what the baseline is asked before shipping and at a rollback; None: nothing.
    """

    type: Literal["http"] = "http"
    conn_id: str
    read: HttpRead
    write: HttpWrite | None = None
    check: HttpCheck | None = None
    baseline_health: HttpHealth | None = None


class MlflowTarget(TargetSettings):
    """An alias in the registry of an MLflow tracking server, behind an Airflow ``http`` connection.

    :param model: the registered model.
    :param alias: the alias by which the service loads what it serves.
    :param candidate_alias: the alias by which it loads what gets ``ship_share`` of its traffic; None: there
        is just ``alias``, which has all of it.
    :param version_tag: the tag of a model version that holds a version's name; None: ``versions`` says which
        model version it is, or the name itself is the number.
    """

    type: Literal["mlflow"] = "mlflow"
    conn_id: str
    model: str
    alias: str = "champion"
    candidate_alias: str | None = None
    version_tag: str | None = None


class UnleashTarget(TargetSettings):
    """A gradual rollout of a feature flag, by an Unleash-compatible admin API behind an ``http`` connection.

    :param by: ``rollout``: the flag is on for the release's share of the traffic. ``variants``: the rollout
        stays, and the weights of its variants, named after the versions, divide the traffic.
    """

    type: Literal["unleash"] = "unleash"
    conn_id: str
    project: str = "default"
    flag: str
    environment: str = "production"
    by: Literal["rollout", "variants"] = "rollout"


class FlagdTarget(TargetSettings):
    """A ``fractional`` targeting in a JSON file of flagd, the reference provider of OpenFeature.

    :param path: of the file, on every worker.
    """

    type: Literal["flagd"] = "flagd"
    path: str
    flag: str


Target = Annotated[HttpTarget | MlflowTarget | UnleashTarget | FlagdTarget, Field(discriminator="type")]
